"""A trace for each revision; what is held or can't be read is found without a search."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revision", sa.Column("trace_id", sa.String(32)))
    quarantined = sa.text("state = 'quarantined'")
    op.create_index(
        "ix_received_object_quarantined",
        "received_object",
        ["id"],
        sqlite_where=quarantined,
        postgresql_where=quarantined,
    )
    held = sa.text("held_code IS NOT NULL")
    op.create_index(
        "ix_study_held", "study", ["id"], sqlite_where=held, postgresql_where=held
    )


def downgrade() -> None:
    op.drop_index("ix_study_held", table_name="study")
    op.drop_index("ix_received_object_quarantined", table_name="received_object")
    op.drop_column("revision", "trace_id")
