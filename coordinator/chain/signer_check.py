"""Whether a signing address may complete a work, asked of one node unless it is known from a moment ago (`rights`)."""

from __future__ import annotations

import asyncio

from coordinator.chain import queries
from coordinator.chain.client import SigningRight
from coordinator.chain.node import Node
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.permissions import check_delegation, permission_id, signer_player
from coordinator.chain.rights import KnownRights
from coordinator.chain.transport import HeightWitness
from hashfleet.action import Action, check_object_id
from hashfleet.rpc.structs.structs import query_pb2


class SignerCheck:
    """Checks for one client."""

    def __init__(self, node: Node, objects: ObjectReader, limit: float) -> None:
        """`limit` is that of all the queries of a check, in seconds."""
        self._node = node
        self._objects = objects
        self._limit = limit
        self._rights = KnownRights()

    def note_owner(self, action: Action, object_id: str, owner: str) -> None:
        """A reading told whose object this is."""
        self._rights.note_owner(action, object_id, owner, _now())

    def block_seen(self, touched: frozenset[str] | None) -> None:
        """Forget what a block may have changed; None for a block of which nothing is known."""
        self._rights.block_seen(touched)

    async def right(self, address: str, action: Action, object_id: str) -> SigningRight:
        """See `ChainClient.check_signer`."""
        check_object_id(object_id, action.object_type, "entity_id")
        async with self._node.within(self._limit, f"who may sign for {object_id}"):
            return await self._right(address, action, object_id)

    async def _right(self, address: str, action: Action, object_id: str) -> SigningRight:
        await self._node.check_caught_up()
        if action is Action.CHARTER:
            return SigningRight(await self._registered_player(address, action), object_id)
        era = self._rights.era
        owner = self._rights.take_owner(action, object_id, _now()) or await self._owner(action, object_id)
        player = self._rights.holder(address, owner, action, _now())
        if player is None:
            player = await self._check_right(address, owner, action)
            self._rights.keep(address, owner, action, player, era, _now())
        return SigningRight(player, owner)

    async def _check_right(self, address: str, owner: str, action: Action) -> str:
        """The player of the address, if the address may do this for the owner. Raises KeyProblem."""
        signer = await self._registered_player(address, action)
        if owner == signer:
            return signer
        asked = permission_id(owner, signer)
        witness = HeightWitness()
        record = await self._node.find(
            queries.PERMISSION, query_pb2.QueryGetPermissionRequest(permissionId=asked), f"permission {asked}", witness
        )
        self._node.check_told(witness)
        if record is None:
            await self._node.check_fresh()
        check_delegation(record, owner, signer, action)
        return signer

    async def _registered_player(self, address: str, action: Action) -> str:
        """The player of the address, if the address itself may do this. Raises KeyProblem."""
        asked = query_pb2.QueryGetAddressRequest(address=address)
        witness = HeightWitness()
        answer = await self._node.ask(queries.ADDRESS, asked, f"address {address}", witness)
        self._node.check_told(witness)
        return signer_player(answer, address, action)

    async def _owner(self, action: Action, object_id: str) -> str:
        """The player whose permissions decide about this object. Raises WorkGone if it does not exist."""
        if action is Action.RAID:
            return (await self._objects.fleet(object_id, HeightWitness())).owner
        struct = await self._objects.struct(object_id, HeightWitness())
        if struct is None:
            await self._node.raise_gone(f"struct {object_id}")
        return struct.owner


def _now() -> float:
    return asyncio.get_running_loop().time()
