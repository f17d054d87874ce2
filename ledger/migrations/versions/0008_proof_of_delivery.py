"""proof of delivery, and storage commitment that others ask for."""

from alembic import op
import sqlalchemy as sa

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('delivery', sa.Column('proof', sa.String(length=16), nullable=True))
    op.add_column('delivery', sa.Column('proof_due_at', sa.Double(), nullable=True))
    op.add_column('delivery', sa.Column('proof_attempts', sa.Integer(), server_default='0', nullable=False))
    op.add_column('delivery', sa.Column('transaction_uid', sa.String(length=64), nullable=True))
    op.add_column('delivery', sa.Column('failure_reason', sa.Integer(), nullable=True))
    op.execute("UPDATE delivery SET proof = 'success' WHERE state = 'delivered'")
    for name, column in (('ix_delivery_unproven', 'proof_due_at'), ('ix_delivery_transaction', 'transaction_uid')):
        where = sa.text(f'{column} IS NOT NULL')
        op.create_index(name, 'delivery', [column], unique=False, sqlite_where=where, postgresql_where=where)
    op.create_table('commitment_request',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('transaction_uid', sa.String(length=64), nullable=False),
    sa.Column('calling_ae_title', sa.String(length=16), nullable=False),
    sa.Column('peer_address', sa.String(length=64), nullable=False),
    sa.Column('instances', sa.JSON(), nullable=False),
    sa.Column('received_at', sa.Double(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('next_attempt_at', sa.Double(), nullable=True),
    sa.Column('reported_at', sa.Double(), nullable=True),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('calling_ae_title', 'transaction_uid')
    )
    op.create_index(op.f('ix_commitment_request_next_attempt_at'), 'commitment_request', ['next_attempt_at'], unique=False)


def downgrade() -> None:
    op.drop_table('commitment_request')
    op.drop_index('ix_delivery_transaction', table_name='delivery')
    op.drop_index('ix_delivery_unproven', table_name='delivery')
    for name in ('failure_reason', 'transaction_uid', 'proof_attempts', 'proof_due_at', 'proof'):
        op.drop_column('delivery', name)
