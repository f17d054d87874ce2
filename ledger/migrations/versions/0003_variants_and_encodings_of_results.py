"""variants and encodings of results."""

from alembic import op
import sqlalchemy as sa

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('result_encoding',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('result_object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('transfer_syntax_uid', sa.String(length=64), nullable=False),
    sa.Column('path', sa.String(length=256), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.ForeignKeyConstraint(['result_object_id'], ['result_object.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('result_object_id', 'transfer_syntax_uid')
    )
    with op.batch_alter_table('result_object', schema=None) as batch_op:
        batch_op.add_column(sa.Column('variant', sa.String(length=48), nullable=False, server_default=''))
    with op.batch_alter_table('delivery', schema=None) as batch_op:
        batch_op.add_column(sa.Column('encoding_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True))
        batch_op.create_foreign_key('delivery_encoding_id_fkey', 'result_encoding', ['encoding_id'], ['id'])
