"""Evidence of completeness, whose a study is, and what goes first."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = '0004'
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("received_object", sa.Column("priority", sa.Integer()))
    op.add_column("study", sa.Column("held_code", sa.String(48)))
    op.add_column("study", sa.Column("held_reason", sa.Text()))
    op.add_column("study", sa.Column("decided_patient", sa.JSON()))
    op.add_column("study", sa.Column("decided_by", sa.String(64)))
    op.add_column("revision", sa.Column("confidence", sa.String(16)))
    op.add_column("revision", sa.Column("is_stat", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("revision", sa.Column("superseded_by", sa.Integer()))
    op.add_column("instance", sa.Column("patient_claim", sa.Integer()))
    op.create_table(
        "patient_claim",
        sa.Column("id", BIG, nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_birth_date", sa.Text(), nullable=False),
        sa.Column("is_accepted", sa.Boolean()),
        sa.Column("first_received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study_id", "number"),
    )
    op.create_table(
        "announcement",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("sop_instance_uids", sa.JSON(), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sop_instance_uid"),
    )
    op.create_index(
        op.f("ix_announcement_study_instance_uid"), "announcement", ["study_instance_uid"]
    )


def downgrade() -> None:
    op.drop_table("announcement")
    op.drop_table("patient_claim")
    op.drop_column("instance", "patient_claim")
    for name in ("confidence", "is_stat", "superseded_by"):
        op.drop_column("revision", name)
    for name in ("held_code", "held_reason", "decided_patient", "decided_by"):
        op.drop_column("study", name)
    op.drop_column("received_object", "priority")
