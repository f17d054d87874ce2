"""workers with heartbeats; how often a job was begun in vain."""

from alembic import op
import sqlalchemy as sa

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('worker',
    sa.Column('id', sa.String(length=128), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('queues', sa.Text(), nullable=False),
    sa.Column('version', sa.String(length=32), nullable=False),
    sa.Column('spool', sa.String(length=8), nullable=False),
    sa.Column('started_at', sa.Double(), nullable=False),
    sa.Column('seen_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.add_column('job', sa.Column('starts', sa.Integer(), server_default='0', nullable=False))


def downgrade() -> None:
    op.drop_column('job', 'starts')
    op.drop_table('worker')
