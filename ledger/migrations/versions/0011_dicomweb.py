"""what DICOMweb searches answer from: columns of studies, series and results."""

from alembic import op
import sqlalchemy as sa

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

STUDY = ('study_id', 'referring_physician_name')
SERIES = (
    'performed_procedure_step_start_date',
    'performed_procedure_step_start_time',
    'scheduled_procedure_step_id',
    'requested_procedure_id',
)


def upgrade() -> None:
    for table, names in (('study', STUDY), ('series', SERIES)):
        for name in names:
            op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default=''))
    op.add_column('result_object', sa.Column('facts', sa.JSON(), nullable=True))
    op.create_index('ix_study_by_date', 'study', ['study_date', 'id'])
    op.create_index(
        op.f('ix_result_object_series_instance_uid'), 'result_object', ['series_instance_uid']
    )


def downgrade() -> None:
    op.drop_index(op.f('ix_result_object_series_instance_uid'), 'result_object')
    op.drop_index('ix_study_by_date', 'study')
    op.drop_column('result_object', 'facts')
    for table, names in (('series', SERIES), ('study', STUDY)):
        for name in names:
            op.drop_column(table, name)
