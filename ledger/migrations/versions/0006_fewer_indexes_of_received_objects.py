"""fewer indexes of received objects: no query used them, and every commit wrote them."""

from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('received_object', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_received_object_sop_instance_uid'))
        batch_op.drop_index(batch_op.f('ix_received_object_association_id'))


def downgrade() -> None:
    with op.batch_alter_table('received_object', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_received_object_association_id'), ['association_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_received_object_sop_instance_uid'), ['sop_instance_uid'], unique=False)
