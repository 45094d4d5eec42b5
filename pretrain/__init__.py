from pretrain import neighbours as _neighbours

_neighbours.check()
