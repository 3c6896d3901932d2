"""From an owner's table to rows in the unit ball, under a schema that everybody agreed and nobody's records shaped."""
