"""What a project keeps in review.sqlite: fields, objects, labels, and every step of every person.

Modules: `database` (the file, transactions, copies), `schema` (tables and migrations), `journal`
(network drives), `fields`, `labels` (label sets), `outlines` (masks and polygons), `objects`,
`attach` (another detection), `steps` (the append-only log, undo), `edits` (what a person does).
"""
