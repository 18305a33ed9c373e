"""Side-by-side measurements of engines, fleet and jobs, and the document made of them.

Measuring runs the product and imports it; nothing of the product imports this package but the command line. Results
are pydantic models (`report`), so what is measured, committed and shown has one shape. `results/` holds what was
measured, one file per kind and machine; docs/benchmarks.md is made of these files alone.
"""
