from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0008_merged'),
    ]

    operations = [
        migrations.AddField(
            model_name='pullrequest',
            name='meant',
            field=models.JSONField(blank=True, default=list, help_text='Files in which lines of a conflict are meant to stand, as who asked says.'),
        ),
    ]
