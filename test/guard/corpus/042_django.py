from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("crm", "0041_auto")]

    operations = [
        migrations.RunSQL(
            sql="""
                CREATE INDEX CONCURRENTLY leads_phone ON leads (phone);
                UPDATE leads SET phone = NULL WHERE phone = '-';
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
