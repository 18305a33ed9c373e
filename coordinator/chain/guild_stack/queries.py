"""The SQL of one reading: one statement, so that everything in it is of one moment.

Rows travel as JSON objects of whole table rows, so that a column that a stack does not have yet (or no more) is a
missing member and not a failing query.
"""

from __future__ import annotations

from typing import Final

#: Rows of view.work for one player at most: the chain gives each planet and fleet 16 slots.
MAX_WORKS: Final = 4096

_BLOCKS: Final = """
  'blocks', (SELECT jsonb_agg(to_jsonb(b) || jsonb_build_object(
      'age', greatest(0, extract(epoch FROM clock_timestamp() - b.updated_at)),
      'time', extract(epoch FROM b.updated_at))) FROM structs.current_block b)"""

#: The heights that the index tells.
BLOCKS: Final = f"SELECT jsonb_build_object({_BLOCKS})"

#: Heights, and what decides whether notifications tell all: the known categories, and a fingerprint of permissions,
#: which are never notified.
HEIGHT_AND_PERMISSIONS: Final = f"""SELECT jsonb_build_object({_BLOCKS},
  'permissions', (SELECT jsonb_build_array(count(*), sum(val::bigint), max(updated_at)) FROM structs.permission))"""

CATEGORIES: Final = """SELECT jsonb_build_object('categories', (SELECT jsonb_agg(e.enumlabel) FROM pg_enum e
  JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typname = 'grass_category' AND n.nspname = 'structs'))"""

_SOURCES: Final = f"""
s AS (SELECT * FROM structs.struct WHERE id IN (SELECT id FROM ids)),
f AS (SELECT * FROM structs.fleet WHERE id IN (SELECT id FROM ids)),
p AS (SELECT * FROM structs.planet WHERE id IN (
  SELECT location_id FROM s WHERE location_type = 'planet'
  UNION SELECT location_id FROM f WHERE location_type = 'planet'))
SELECT jsonb_build_object({_BLOCKS},
  'work', (SELECT jsonb_agg(to_jsonb(w)) FROM w),
  'structs', (SELECT jsonb_agg(to_jsonb(s)) FROM s),
  'fleets', (SELECT jsonb_agg(to_jsonb(f)) FROM f),
  'planets', (SELECT jsonb_agg(to_jsonb(p)) FROM p),
  'types', (SELECT jsonb_agg(jsonb_build_object('id', t.id, 'build_difficulty', t.build_difficulty,
      'planetary_mining', t.planetary_mining, 'planetary_refinery', t.planetary_refinery,
      'ore_mining_difficulty', t.ore_mining_difficulty, 'ore_refining_difficulty', t.ore_refining_difficulty))
    FROM structs.struct_type t WHERE t.id IN (SELECT type FROM s)),
  'struct_attributes', (SELECT jsonb_object_agg(a.id, a.val) FROM structs.struct_attribute a
    WHERE a.id IN (SELECT n || '-' || s.id FROM s, unnest(ARRAY['1', '2', '3', '4']) n)),
  'planet_attributes', (SELECT jsonb_object_agg(a.id, a.val) FROM structs.planet_attribute a
    WHERE a.id IN (SELECT n || '-' || p.id FROM p, unnest(ARRAY['0', '10', '12', '13']) n)),
  'ore', (SELECT jsonb_object_agg(g.id, g.val) FROM structs.grid g
    WHERE g.id IN (SELECT '0-' || p.id FROM p UNION SELECT '0-' || s.owner FROM s)),
  'player', (SELECT to_jsonb(y) FROM structs.player y WHERE y.id = %(player)s::text))"""

#: One object's work.
OBJECT_WORK: Final = f"""WITH ids AS (SELECT %(object)s::text AS id),
w AS MATERIALIZED (SELECT * FROM view.work WHERE object_id = %(object)s::text LIMIT 10),{_SOURCES}"""

#: All that a player may work on.
PLAYER_WORK: Final = f"""WITH w AS MATERIALIZED (SELECT * FROM view.work WHERE player_id = %(player)s::text
  OR (category = 'RAID' AND object_id = (SELECT fleet_id FROM structs.player WHERE id = %(player)s::text))
  LIMIT {MAX_WORKS}),
ids AS (SELECT object_id AS id FROM w),{_SOURCES}"""

_OWNER: Final = """coalesce((SELECT owner FROM structs.struct WHERE id = %(object)s::text),
    (SELECT owner FROM structs.fleet WHERE id = %(object)s::text))"""

#: Who owns an object.
OWNER: Final = f"SELECT jsonb_build_object('owner', {_OWNER})"

#: What an address may do: by itself, and for the owner.
ADDRESS_RIGHTS: Final = f"""WITH a AS (
  SELECT player_id, val FROM structs.permission WHERE object_index = %(address)s::text)
SELECT jsonb_build_object(
  'owner', {_OWNER},
  'address', (SELECT jsonb_agg(to_jsonb(a)) FROM a),
  'delegated', (SELECT jsonb_agg(to_jsonb(d)) FROM
    (SELECT object_id, player_id, val FROM structs.permission
      WHERE player_id IN (SELECT player_id FROM a) AND object_id = {_OWNER} LIMIT 100) d))"""
