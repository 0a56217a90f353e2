"""Measures the memory that code takes at once, in one tensor or in all, for tests of what is said about it."""

import weakref

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Within it, ``numel`` is the most entries of any tensor that an operation made anew."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        for tensor in tree_leaves(result):
            if _is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.numel = max(self.numel, tensor.numel())
        return result


class LiveBytes(TorchDispatchMode):
    """Within it, ``peak`` is the most bytes of tensors that were made in it and alive at once."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if _is_tensor(tensor) and (storage := tensor.untyped_storage()) not in self.seen:
                self.seen.add(storage)
                weakref.finalize(storage, self.gone, size := storage.nbytes())
                self.live += size
        self.peak = max(self.peak, self.live)
        return result

    def gone(self, size):
        self.live -= size


def _is_tensor(value):
    return hasattr(value, "untyped_storage")
