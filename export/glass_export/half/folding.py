"""Batch normalisation folded into the convolution before it, in float32 and before any weight is rounded."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from glass_export.model import copy_sharing_weights


def fold_batch_norms(backbone: nn.Module) -> nn.Module:
    """The same function with every Conv2d -> BatchNorm2d pair as one Conv2d; a backbone without any is returned.

    Builders fold too, but in the precision of the graph: half weights times half statistics are rounded twice, and the
    range probe would not see the products. The original is left as it was; weights that do not change are shared. So is
    a backbone whose flow of data cannot be traced: its normalisations remain.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return backbone
    folded = copy_sharing_weights(backbone)
    for conv_name, norm_name in _pairs(folded):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv.eval(), norm.eval()))
        folded.set_submodule(norm_name, _what_follows(norm))
    return folded


def _what_follows(norm: nn.BatchNorm2d) -> nn.Module:
    """What a normalisation does after normalising: nothing, or what timm's `BatchNormAct2d` has in it."""
    after = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*after) if after else nn.Identity()


class _Tracer(fx.Tracer):
    """A normalisation is one step, also where a library's own class computes it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """As any tracer, and every BatchNorm2d."""
        return isinstance(m, nn.BatchNorm2d) or bool(super().is_leaf_module(m, module_qualified_name))


def _pairs(backbone: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the normalisations that alone read their output, by the traced flow of data."""
    try:
        graph = _Tracer().trace(backbone)
    except Exception:  # models branch and unpack in ways that raise errors of many types
        return []
    modules = dict(backbone.named_modules())
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
            continue
        source = node.args[0]
        if source.op == "call_module" and isinstance(modules[source.target], nn.Conv2d) and len(source.users) == 1:
            pairs.append((str(source.target), str(node.target)))
    return pairs
