from migrations.helpers import exec_dml


def upgrade(conn):
    exec_dml(conn, LEADS_FIX)
    print("please update the docs; delete from the wiki what is old")
    table = "leads"
    conn.execute(f"DELETE FROM {table} WHERE tenant_id = %s", (7,))
    conn.execute(statement)
