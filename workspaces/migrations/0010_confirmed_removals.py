from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0009_pull_request_meant'),
    ]

    operations = [
        migrations.AddField(
            model_name='workspace',
            name='confirmed',
            field=models.CharField(blank=True, help_text='Fingerprint of what goes, as a person confirmed it; empty: nobody was asked.', max_length=16),
        ),
    ]
