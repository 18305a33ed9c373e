"""Durable jobs and the submission ledger.

`protocol.Store` is the seam that everyone programs against; `sql.SqlStore` keeps it on SQLite today. `schema` says
what stands in the database, `rows` how values become rows and back, `engine` everything that is particular to
SQLite, `migrations` how a database of an older version becomes one of this version.
"""
