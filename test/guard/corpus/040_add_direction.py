"""add last_call_direction

Revision ID: 8c1f
Revises: 77aa
"""
from alembic import op
import sqlalchemy as sa

revision = "8c1f"
down_revision = "77aa"


def upgrade():
    op.add_column("leads", sa.Column("last_call_direction", sa.Text()))
    # the label of the old rows; UPDATE leads SET x = 1 is only a comment
    op.execute(
        "UPDATE leads SET last_call_direction = 'out' "
        "WHERE last_call_direction IS NULL"
    )
    op.execute("""
        ALTER TABLE leads
            ADD CONSTRAINT direction_known CHECK (last_call_direction IN ('in', 'out')) NOT VALID
    """)


def downgrade():
    op.drop_column("leads", "last_call_direction")
