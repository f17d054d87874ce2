"""retention: what was given up, and which bytes are still needed."""

from alembic import op
import sqlalchemy as sa

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

INDEXES = (
    ('ix_received_object_kept', 'received_object', ['segment', 'size'], "state IN ('indexed', 'quarantined')"),
    ('ix_study_present', 'study', ['last_received_at'], 'expired_at IS NULL'),
    ('ix_study_to_remove', 'study', ['remove_results_until'], 'remove_results_until IS NOT NULL'),
)


def upgrade() -> None:
    op.add_column('study', sa.Column('expired_at', sa.Double(), nullable=True))
    op.add_column('study', sa.Column('remove_results_until', sa.Double(), nullable=True))
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table_name=table)
    op.drop_column('study', 'remove_results_until')
    op.drop_column('study', 'expired_at')
