"""Images: what containers start from. Made by import, load and commit; named by references; kept in layers.

reference   names as people write them         document    the configuration, whose digest is the image's id
store       `Images`: which images there are    layers      their layers, at the storage driver and as blobs
unpacking   an archive of images, read          packing     the same, written
amend       `--change`                          listing     filters and history
"""

from wherry.images.store import Images

__all__ = ["Images"]
