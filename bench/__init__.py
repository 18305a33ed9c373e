"""Side-by-side measurements. Each prints one JSON object; nothing here is imported by the product."""
