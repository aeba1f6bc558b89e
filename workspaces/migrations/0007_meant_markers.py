from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0006_forges'),
    ]

    operations = [
        migrations.AddField(
            model_name='mergeattempt',
            name='meant',
            field=models.JSONField(blank=True, default=list, help_text='Files in which lines of a conflict are meant to stand, as who asked says.'),
        ),
    ]
