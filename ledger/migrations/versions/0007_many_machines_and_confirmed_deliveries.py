"""workers with heartbeats, storage commitment, confirmed deliveries, retention."""

from alembic import op
import sqlalchemy as sa

revision = '0007'
down_revision = '0005'
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


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
    op.create_table('commitment',
    sa.Column('id', BIG, nullable=False),
    sa.Column('transaction_uid', sa.String(length=64), nullable=False),
    sa.Column('calling_ae_title', sa.String(length=16), nullable=False),
    sa.Column('committed', sa.JSON(), nullable=False),
    sa.Column('failed', sa.JSON(), nullable=False),
    sa.Column('requested_at', sa.Double(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.Column('next_attempt_at', sa.Double(), nullable=True),
    sa.Column('reported_at', sa.Double(), nullable=True),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('calling_ae_title', 'transaction_uid')
    )
    with op.batch_alter_table('commitment', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_commitment_next_attempt_at'), ['next_attempt_at'], unique=False)
    with op.batch_alter_table('received_object', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_received_object_segment'), ['segment'], unique=False)
    op.add_column('job', sa.Column('starts', sa.Integer(), server_default='0', nullable=False))
    op.add_column('study', sa.Column('removed_at', sa.Double(), nullable=True))
    op.add_column('delivery', sa.Column('confirmed_at', sa.Double(), nullable=True))
    op.add_column('delivery', sa.Column('transaction_uid', sa.String(length=64), nullable=True))
    with op.batch_alter_table('delivery', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_delivery_transaction_uid'), ['transaction_uid'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('delivery', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_delivery_transaction_uid'))
    op.drop_column('delivery', 'transaction_uid')
    op.drop_column('delivery', 'confirmed_at')
    op.drop_column('job', 'starts')
    op.drop_column('study', 'removed_at')
    with op.batch_alter_table('received_object', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_received_object_segment'))
    op.drop_table('commitment')
    op.drop_table('worker')
