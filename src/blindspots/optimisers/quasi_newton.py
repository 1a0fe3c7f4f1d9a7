"""The quasi-Newton direction of L-BFGS, each image with its own history, in the compact form.

With the pairs s_i = x_{i+1} - x_i, y_i = g_{i+1} - g_i of an image as columns of S and Y, oldest first, R the upper
triangle of S'Y, D its diagonal, p = R^-1 S'g and w = R^-T (D p + c Y'Y p - c Y'g), the recursion of two loops
multiplies the gradient by

    H g = c g + S w - c Y p,        c = s'y / y'y of the newest pair.

So two products with the history do, the rest is of size `memory`, and pairs need not lie in the order of their age.
With a metric, H starts from c P instead of c I: H g = c P g + S w - c P Y p, with Y'P Y for Y'Y, Y'P g for Y'g, and
c = s'y / y'P y. The history then holds P y in the place of y, of which all this can be had.
Source: Byrd, Nocedal and Schnabel 1994, "Representations of quasi-Newton matrices and their use in limited memory
methods", theorem 2.2. Differs from the paper: with bounds, all products run over the free variables alone, and pairs
without positive curvature there are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def push(history: Tensor, pushed: Tensor, s: Tensor, y: Tensor, keep: Tensor) -> None:
    """Put the pairs s, y (R, D) of the rows in `keep` over their oldest, in place; with a metric, s and Py.

    `history` (R, 2 m, D) holds m values of s and then m of y in a ring; `pushed` (R,) counts the pairs that it has.
    """
    memory = history.shape[1] // 2
    rows, slot, kept = torch.arange(len(history), device=history.device), pushed % memory, keep.unsqueeze(1)
    for place, value in ((slot, s), (slot + memory, y)):
        history[rows, place] = torch.where(kept, value, history[rows, place])


def learn(products: Tensor, history: Tensor, pushed: Tensor, y: Tensor, keep: Tensor) -> None:
    """Bring the products (R, 2 m, m) of the history with its values of y up to date, in place, after a `push`.

    Products of a value of s with an older y stay those of the slots' last holders: nothing asks for them.
    """
    memory = history.shape[1] // 2
    rows, slot, kept = torch.arange(len(history), device=history.device), pushed % memory, keep.unsqueeze(1)
    with_y = torch.bmm(y.unsqueeze(1), history.mT).double().squeeze(1)  # (R, 2 m)
    products[rows, :, slot] = torch.where(kept, with_y, products[rows, :, slot])
    products[rows, slot + memory] = torch.where(kept, with_y[:, memory:], products[rows, slot + memory])


def newton_step(
    history: Tensor,
    pushed: Tensor,
    gradient: Tensor,
    curvature: float,
    products: Tensor | None = None,
    free: Tensor | None = None,
    shaped: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The step -H g (R, D), and whether any pair was of use (R,); where none was, it is -g or -Pg.

    Args:
        history, pushed: as in `push`.
        gradient: (R, D).
        curvature: a pair is of use where s'y > curvature * y'y.
        products: of `learn`; None forms them from the free entries alone, as if there were no others.
        free: the variables to which the step is held (R, D), bool; None is all.
        shaped: Pg for a gradient that is 0 where nothing is free, with a metric.

    No row depends on another.
    """
    memory = history.shape[1] // 2
    held = gradient if free is None else gradient * free
    if products is None:
        assert free is not None
        right = torch.empty_like(history[:, memory - 1 :])
        torch.mul(history[:, memory:], free.unsqueeze(1), out=right[:, :memory])
        right[:, memory] = held
        products = torch.bmm(history, right.mT).double()  # (R, 2 m, m + 1)
    else:
        products = torch.cat((products, torch.bmm(held.unsqueeze(1), history.mT).double().mT), 2)

    # In the order of age; slots that are still empty count as the oldest.
    slots = torch.arange(memory, device=history.device)
    order = (pushed.unsqueeze(1) + slots) % memory  # (R, m)
    columns = order.unsqueeze(1).expand(-1, memory, -1)
    both = torch.cat((order, order + memory), 1)
    products = products.gather(1, both.unsqueeze(2).expand_as(products))
    s_y, y_y = products[..., :memory].gather(2, columns.repeat(1, 2, 1)).tensor_split(2, 1)
    s_g, y_g = products[..., memory].tensor_split(2, 1)

    own, norm = s_y.diagonal(dim1=1, dim2=2), y_y.diagonal(dim1=1, dim2=2)
    useful = (own > curvature * norm) & (norm > 0) & (slots >= memory - pushed.unsqueeze(1))
    pairs = useful.unsqueeze(1) & useful.unsqueeze(2)
    triangle = torch.where(pairs, s_y, 0.0).triu() + torch.diag_embed((~useful).double())
    newest = (useful * (slots + 1)).amax(1)
    last = (newest - 1).clamp(min=0).unsqueeze(1)
    ratio = own.gather(1, last) / norm.gather(1, last)
    factor = torch.where(newest.unsqueeze(1) > 0, ratio, 1.0)  # (R, 1)

    p = torch.linalg.solve_triangular(triangle, torch.where(useful, s_g, 0.0).unsqueeze(2), upper=True)
    inner = own.unsqueeze(2) * p + factor.unsqueeze(2) * (y_y @ p - y_g.unsqueeze(2))
    inner = torch.where(useful.unsqueeze(2), inner, 0.0)
    w = torch.linalg.solve_triangular(triangle.mT, inner, upper=False)
    weights = torch.cat((w, -factor.unsqueeze(2) * p), 1).squeeze(2)  # (R, 2 m), oldest first
    weights = torch.zeros_like(weights).scatter(1, both, weights).to(gradient.dtype)
    pull = torch.bmm(weights.unsqueeze(1), history).squeeze(1)
    step = torch.addcmul(pull, factor.to(gradient.dtype), held if shaped is None else shaped).neg_()
    if free is not None:
        step *= free
    return step, newest > 0
