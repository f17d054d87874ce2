"""The event log is chained and append-only."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# A row may be sealed once; nothing else of it ever changes, and it goes only after it was archived.
# SQLite's REPLACE deletes without asking triggers: so no row comes with a taken id, or sealed, and
# none is sealed with any number but the next.
SQLITE = [
    """
    CREATE TRIGGER event_comes_unsealed BEFORE INSERT ON event
    WHEN NEW.number IS NOT NULL OR NEW.digest IS NOT NULL
        OR EXISTS (SELECT 1 FROM event WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
    """
    CREATE TRIGGER event_never_changes BEFORE UPDATE ON event
    WHEN OLD.number IS NOT NULL OR OLD.digest IS NOT NULL
        OR NEW.number IS NULL OR NEW.digest IS NULL
        OR NEW.id IS NOT OLD.id OR NEW.at IS NOT OLD.at OR NEW.actor IS NOT OLD.actor
        OR NEW.action IS NOT OLD.action OR NEW.subject IS NOT OLD.subject
        OR NEW.detail IS NOT OLD.detail
        OR NEW.number IS NOT 1 + coalesce(
            (SELECT max(number) FROM event), (SELECT max(last_number) FROM event_archive), 0)
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
    """
    CREATE TRIGGER event_never_goes BEFORE DELETE ON event
    WHEN OLD.number IS NULL
        OR OLD.number > coalesce((SELECT max(last_number) FROM event_archive), 0)
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
    """
    CREATE TRIGGER event_archive_comes_once BEFORE INSERT ON event_archive
    WHEN EXISTS (SELECT 1 FROM event_archive WHERE last_number >= NEW.last_number)
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
    """
    CREATE TRIGGER event_archive_never_changes BEFORE UPDATE ON event_archive
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
    """
    CREATE TRIGGER event_archive_never_goes BEFORE DELETE ON event_archive
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END
    """,
]
POSTGRESQL = [
    """
    CREATE FUNCTION event_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$
    """,
    """
    CREATE TRIGGER event_comes_unsealed BEFORE INSERT ON event FOR EACH ROW
    WHEN (NEW.number IS NOT NULL OR NEW.digest IS NOT NULL)
    EXECUTE FUNCTION event_log_is_append_only()
    """,
    """
    CREATE TRIGGER event_never_changes BEFORE UPDATE ON event FOR EACH ROW
    WHEN (OLD.number IS NOT NULL OR OLD.digest IS NOT NULL
        OR NEW.number IS NULL OR NEW.digest IS NULL
        OR ROW(NEW.id, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.detail::text)
        IS DISTINCT FROM ROW(OLD.id, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.detail::text))
    EXECUTE FUNCTION event_log_is_append_only()
    """,
    """
    CREATE FUNCTION event_stays_until_archived() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.number IS NULL
            OR OLD.number > coalesce((SELECT max(last_number) FROM event_archive), 0)
        THEN RAISE EXCEPTION 'the event log is append-only'; END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE TRIGGER event_never_goes BEFORE DELETE ON event FOR EACH ROW
    EXECUTE FUNCTION event_stays_until_archived()
    """,
    """
    CREATE TRIGGER event_never_goes_at_once BEFORE TRUNCATE ON event
    EXECUTE FUNCTION event_log_is_append_only()
    """,
    """
    CREATE TRIGGER event_archive_never_changes BEFORE UPDATE OR DELETE ON event_archive FOR EACH ROW
    EXECUTE FUNCTION event_log_is_append_only()
    """,
    """
    CREATE TRIGGER event_archive_never_goes BEFORE TRUNCATE ON event_archive
    EXECUTE FUNCTION event_log_is_append_only()
    """,
]
GUARDS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}


def upgrade() -> None:
    op.add_column("event", sa.Column("number", sa.BigInteger()))
    op.add_column("event", sa.Column("digest", sa.String(64)))
    op.create_index("ix_event_number", "event", ["number"], unique=True)
    op.create_index(
        "ix_event_unsealed",
        "event",
        ["id"],
        sqlite_where=sa.text("number IS NULL"),
        postgresql_where=sa.text("number IS NULL"),
    )
    op.create_table(
        "event_archive",
        sa.Column("last_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("file", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("archived_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("last_number"),
    )
    op.create_table(
        "audit_forwarding",
        sa.Column("collector", sa.String(128), nullable=False),
        sa.Column("sent_number", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("held_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("collector"),
    )
    for statement in GUARDS[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("an audit log isn't taken apart; restore a backup")
