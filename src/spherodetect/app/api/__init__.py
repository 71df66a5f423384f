"""The routes below api/, which the browser calls.

Modules: `bodies` (what requests hold), `session`, `fields`, `objects`, `labels`, `steps`,
`segment`, `reviews`, `learning`, `exports`.
"""
