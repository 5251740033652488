"""The built-in face, made by a recipe from authored numbers and covariances; it holds no data of others.

`build` runs the recipe (half a minute, needs scipy), `write_product` stores what it gives in a compact file,
`load_product` reads that file. Normal use reads the file in mofa_nvdr.assets.
"""

from mofa_nvdr.face.recipe.product import build, load_product, write_product

__all__ = ["build", "load_product", "write_product"]
