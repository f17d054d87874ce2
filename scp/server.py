"""The accepting side: one thread that accepts, one :class:`StoreAssociation` per connection."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationServer, RequestHandler

from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp.access import AccessPolicy, Rejection
from scp.association import StoreAssociation
from scp.config import ListenerConfig
from scp.reception import Intake

LOGGER = logging.getLogger(__name__)
MAX_STRANGERS = 16
"""Connections at a time from addresses of which nobody may associate; they learn so, but no more
of them can hold the place of senders."""
EventHandler = tuple[evt.EventType, Callable[..., Any]]


class _StoreHandler(RequestHandler):
    """Makes our association where the original makes pynetdicom's."""

    server: StoreServer

    def _create_association(self) -> StoreAssociation:
        server = self.server
        association = StoreAssociation(self.ae, server, self.request)
        association.name = f"association-{self.client_address[0]}:{self.client_address[1]}"
        acceptor = association.acceptor
        acceptor.maximum_length = server.config.max_pdu_bytes
        acceptor.ae_title = server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        association.requestor.address_info = self.remote
        for event, handler in server.event_handlers:
            association.bind(event, handler)
        server.remember(association)
        return association


class StoreServer(AssociationServer):
    """pynetdicom's server for associations that store by streaming.

    Parameters
    ----------
    config
        Its host, port and limits.
    intake
        Where received objects go.
    name
        Of the listener, in the ledger.
    contexts
        Of the services that pynetdicom serves, such as Verification.
    event_handlers
        Their handlers, as ``(event, callable)``.
    tls
        Wraps accepted connections.

    Raises
    ------
    OSError
        The port can't be had.
    """

    request_queue_size = 128  # connections that wait for accept(); senders come in bursts

    def __init__(
        self,
        config: ListenerConfig,
        intake: Intake,
        name: str,
        contexts: Sequence[PresentationContext],
        event_handlers: Sequence[EventHandler] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.config = config
        self.intake = intake
        self.name = name
        self._policy = AccessPolicy(config)
        self.event_handlers = event_handlers
        self._associations: set[StoreAssociation] = set()
        self._admitted: set[StoreAssociation] = set()
        self._strangers: set[StoreAssociation] = set()
        self._associations_changed = threading.Condition()
        entity = AE(config.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = 1 << 30  # AccessPolicy counts
        super().__init__(
            entity,
            (config.host, config.port),
            config.ae_title,
            list(contexts),
            ssl_context=tls,
            request_handler=_StoreHandler,
        )

    # -- connections

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the association does the TLS handshake, so nobody waits for a slow one."""
        connection, address = self.socket.accept()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections beyond what associations and their rejections need."""
        limit = 2 * self.config.max_associations + MAX_STRANGERS
        is_known = self._policy.knows(client_address[0])
        with self._associations_changed:
            is_fine = len(self._associations) < limit
            is_fine = is_fine and (is_known or len(self._strangers) < MAX_STRANGERS)
        if not is_fine:
            LOGGER.warning("connection from %s closed: too many", client_address[0])
        return is_fine

    def service_actions(self) -> None:
        """Skip pynetdicom's full garbage collections: each stops all associations for 100 ms."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; the others go on."""
        LOGGER.error("connection from %s could not be served", client_address[0], exc_info=True)  # noqa: LOG014 - socketserver calls this while it handles one

    # -- associations

    @property
    def active_associations(self) -> list[StoreAssociation]:
        """All connections, established or not."""
        with self._associations_changed:
            return list(self._associations)

    @property
    def asks_for_users(self) -> bool:
        """Whether associations need name and password."""
        return self._policy.asks_for_users

    def admit(
        self,
        association: StoreAssociation,
        calling_ae_title: str,
        called_ae_title: str,
        identity: tuple[bytes, bytes] | None,
    ) -> Rejection | None:
        """Return why the association is rejected, or count it as established and return None."""
        with self._associations_changed:
            rejection = self._policy.judge(
                calling_ae_title=calling_ae_title,
                called_ae_title=called_ae_title,
                address=association.requestor.address,
                established=len(self._admitted),
                identity=identity,
            )
            if rejection is None:
                self._admitted.add(association)
        return rejection

    def remember(self, association: StoreAssociation) -> None:
        """Count an association in."""
        with self._associations_changed:
            self._associations.add(association)
            if not self._policy.knows(association.requestor.address):
                self._strangers.add(association)

    def forget(self, association: StoreAssociation) -> None:
        """Count an association out."""
        with self._associations_changed:
            self._associations.discard(association)
            self._admitted.discard(association)
            self._strangers.discard(association)
            self._associations_changed.notify_all()

    def shutdown(self) -> None:
        """Stop accepting and close the listening socket."""
        super(AssociationServer, self).shutdown()
        self.server_close()

    def end_associations(self, grace_s: float) -> None:
        """Abort all associations; messages in progress get `grace_s` to be answered first."""
        deadline = time.monotonic() + grace_s
        for association in self.active_associations:
            association.drain()
        self._wait_until_over(deadline)
        leftover = self.active_associations
        for association in leftover:
            association.shut_socket()
        self._wait_until_over(time.monotonic() + grace_s)
        for association in leftover:
            association.join(timeout=grace_s)

    def _wait_until_over(self, deadline: float) -> None:
        with self._associations_changed:
            self._associations_changed.wait_for(
                lambda: not self._associations, max(0.0, deadline - time.monotonic())
            )
