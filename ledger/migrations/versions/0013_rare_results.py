"""Results of which few studies have one are found by their kind; names with a dotted capital I get their tags anew."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    few = sa.text("kind NOT IN ('sr', 'sc')")
    op.create_index(
        "ix_result_object_of_few",
        "result_object",
        ["kind"],
        sqlite_where=few,
        postgresql_where=few,
    )
    op.execute(
        sa.text(
            "UPDATE study SET changed_at = last_received_at WHERE changed_at IS NULL "
            "AND (patient_name LIKE :it OR patient_id LIKE :it OR accession_number LIKE :it)"
        ).bindparams(it="%\u0130%")
    )


def downgrade() -> None:
    op.drop_index("ix_result_object_of_few", table_name="result_object")
