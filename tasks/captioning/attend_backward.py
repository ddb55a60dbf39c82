"""Gradients of words with respect to the mean of the grid, through the decoder of Show, Attend and Tell.

What moves all places of the grid alike, A_p + ε, moves all annotations by δ = W_a ε, all keys by W_k δ, the mean of the
annotations and what is attended to, Σ_p α_p a_p, by δ too, because attention sums to 1. So Σ_p ∂S/∂A_p = ∂S/∂ε comes
of vectors, and no gradient is formed for each place. Step t, with h and c from before and y = Σ_p α_p a_p::

    e_p = v · tanh(k_p + W_q h + b)      α = softmax(e)      z = γ y,  γ = σ(w · h + b)
    (h, c) = LSTM([x; z], (h, c))        output = x + L_h h + L_z z

and back, with m = Σ_p α_p (a_p · dz), which is y · dz::

    dz    = L_z' doutput + W_z' dgates
    de_p  = γ α_p (a_p · dz - m)
    dq    = v ⊙ Σ_p de_p (1 - tanh²(k_p + q))
    dh    = W_hh' dgates + W_q' dq + w m γ(1 - γ)      (and L_h' doutput where the step before is scored)
    dδ   += γ dz + W_k' dq
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmexplain.products import product
from mmexplain.recurrent import Schedule, Slopes, through_cell, walk

if TYPE_CHECKING:
    from .show_attend_tell import Forced, ShowAttendTell


def attend_back(model: ShowAttendTell, forced: Forced, vectors: Tensor) -> Tensor:
    """Pull gradients at the output's ``hidden``, ``[B, K, T, embedding]``, back to the grid: ``[B, K, C]``, summed over
    its places."""
    batch, count = vectors.shape[:2]
    size = model.config["hidden"]
    schedule = Schedule.of(vectors)
    order = schedule.captions
    annotations, keys = forced.start.annotations[order], forced.start.keys[order]
    before = forced.before
    assert forced.output.attention is not None
    alpha = forced.output.attention.flatten(2).to(annotations.dtype)
    gate = torch.sigmoid(model.gate(before))
    z = gate * torch.bmm(alpha, forced.start.annotations)
    cell = model.lstm
    gates = product(torch.cat([forced.words, z], -1), cell.weight_ih, cell.bias_ih)
    gates += product(before, cell.weight_hh, cell.bias_hh)
    slopes = schedule.aligned(Slopes(gates, forced.start.c).values)
    queries, alphas, gammas = (schedule.aligned(value) for value in (model.query(before), alpha, gate))
    spoken = torch.cat([model.l_h.weight, model.l_z.weight], 1).mT.contiguous()
    to_h, to_z = product(schedule.vectors, spoken).split([size, annotations.shape[2]], 1)
    # One product for both: what goes on to z and to h.
    onward = torch.cat([cell.weight_ih[:, forced.words.shape[2] :], cell.weight_hh], 1).mT.contiguous()
    energy = model.energy.weight[0]

    dh, dc = vectors.new_zeros(2, batch, count, size)
    seen = vectors.new_zeros(batch, count, annotations.shape[2])
    asked = vectors.new_zeros(batch, count, keys.shape[2])
    for stage, h, c in walk(schedule, dh, dc):
        n, k = stage.captions, stage.targets
        h[stage.at] += to_h[stage.joining]
        dgates = through_cell(slopes[:n, stage.number], h, c).flatten(0, 1)
        dz, back = product(dgates, onward).split([annotations.shape[2], size], 1)
        dz = dz.unflatten(0, (n, k)).contiguous()
        dz[stage.at] += to_z[stage.joining]
        attention, gamma = alphas[:n, None, stage.number], gammas[:n, None, stage.number]
        pulled = torch.bmm(dz, annotations[:n].mT)
        mean = torch.linalg.vecdot(pulled, attention).unsqueeze(2)
        tilted = pulled.sub_(mean).mul_(attention * gamma)
        flat = 1 - torch.tanh_(keys[:n] + queries[:n, None, stage.number]).square_()
        dq = torch.bmm(tilted, flat) * energy
        seen[:n, :k].addcmul_(dz, gamma)
        asked[:n, :k] += dq
        back = torch.addmm(back, dq.flatten(0, 1), model.query.weight)
        h.copy_(back.unflatten(0, (n, k)).addcmul_(mean * (gamma * (1 - gamma)), model.gate.weight[0]))
    begin = forced.start
    moved = seen + asked @ model.key.weight
    moved += (dh * (1 - begin.h[order].square())[:, None]) @ model.init_h.weight
    moved += (dc * (1 - begin.c[order].square())[:, None]) @ model.init_c.weight
    return schedule.restored(product(moved, model.annotate.weight.mT.contiguous()))
