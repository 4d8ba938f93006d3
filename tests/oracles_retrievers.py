"""The heads of well-known retrievers from their definitions, one number at a time, in double precision."""

from __future__ import annotations

import math

import numpy as np


def transported(scores: np.ndarray, dustbin: float, iterations: int) -> np.ndarray:
    """Sinkhorn's scaling without logarithms: (m, n) scores to (m, n) shares, the dustbin's left out."""
    clusters, patches = scores.shape
    kernel = np.exp(np.vstack([scores, np.full(patches, dustbin)]))
    rest = patches - clusters if patches > clusters else patches / (clusters + 1)
    wanted = [(patches - rest) / clusters] * clusters + [rest]
    for _ in range(iterations):
        for row in range(clusters + 1):
            kernel[row] *= wanted[row] / kernel[row].sum()
        for column in range(patches):
            kernel[:, column] /= kernel[:, column].sum()
    return kernel[:clusters]


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector over its norm; zeros stay zeros."""
    return vector / max(np.linalg.norm(vector), 1e-12)


def layer(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """A linear layer, or a convolution of 1x1, on one vector."""
    weight = weights[f"{name}.weight"]
    return weight.reshape(len(weight), -1) @ x + weights[f"{name}.bias"]


def normed(weights: dict[str, np.ndarray], name: str, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Layer norm of one vector."""
    deviation = math.sqrt(((x - x.mean()) ** 2).mean() + eps)
    return (x - x.mean()) / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def salad(cells: np.ndarray, token: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """SALAD of cells (n, K) and a token (K,)."""
    scores = np.array([layer(weights, "score.2", relu(layer(weights, "score.0", cell))) for cell in cells]).T
    plan = transported(scores, float(weights["dustbin"]), 3)
    inner, outer = "cluster_features.0", "cluster_features.2"
    features = [layer(weights, outer, relu(layer(weights, inner, cell))) for cell in cells]
    sums = [unit(sum(share * feature for share, feature in zip(row, features, strict=True))) for row in plan]
    parts = [unit(layer(weights, "token_features.2", relu(layer(weights, "token_features.0", token))))]
    for channel in range(len(features[0])):
        parts.append(np.array([one[channel] for one in sums]))
    joined = np.concatenate(parts)
    return layer(weights, "linear", unit(joined)) if "linear.weight" in weights else joined


def attended(weights: dict[str, np.ndarray], name: str, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Attention of queries (q, D) to keys (n, D), in heads of 64 channels."""
    width = queries.shape[1]
    of_query, of_key, of_value = np.split(weights[f"{name}.in_proj_weight"], 3)
    for_query, for_key, for_value = np.split(weights[f"{name}.in_proj_bias"], 3)
    found = np.zeros_like(queries)
    for row, query in enumerate(queries):
        asked = of_query @ query + for_query
        for first in range(0, width, 64):
            head = slice(first, first + 64)
            scores = [asked[head] @ (of_key @ key + for_key)[head] / 8 for key in keys]
            shares = np.exp(np.array(scores) - max(scores))
            shares /= shares.sum()
            for share, key in zip(shares, keys, strict=True):
                found[row, head] += share * (of_value @ key + for_value)[head]
    return np.array([layer(weights, f"{name}.out_proj", row) for row in found])


def bag_of_queries(x: np.ndarray, weights: dict[str, np.ndarray], layers: int) -> np.ndarray:
    """BoQ of a map (K, h, w)."""
    kernel, bias = weights["proj_c.weight"], weights["proj_c.bias"]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    cells = []
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = padded[:, row : row + 3, column : column + 3]
            cells.append(normed(weights, "norm_input", (kernel * window).sum(axis=(1, 2, 3)) + bias))
    cells, found = np.array(cells), []
    for number in range(layers):
        own = {name.removeprefix(f"boqs.{number}."): value for name, value in weights.items()}
        cells = cells + attended(own, "encoder.self_attn", cells, cells)
        cells = np.array([normed(own, "encoder.norm1", cell) for cell in cells])
        inside = [layer(own, "encoder.linear2", relu(layer(own, "encoder.linear1", cell))) for cell in cells]
        cells = np.array([normed(own, "encoder.norm2", cell + two) for cell, two in zip(cells, inside, strict=True)])
        queries = own["queries"][0] + attended(own, "self_attn", own["queries"][0], own["queries"][0])
        queries = np.array([normed(own, "norm_q", query) for query in queries])
        found += [normed(own, "norm_out", one) for one in attended(own, "cross_attn", queries, cells)]
    return np.concatenate([layer(weights, "fc", np.array(found)[:, channel]) for channel in range(cells.shape[1])])


def feature_mixing(x: np.ndarray, weights: dict[str, np.ndarray], depth: int) -> np.ndarray:
    """MixVPR of a map (K, side, side)."""
    rows = [channel.ravel() for channel in x]
    for number in range(depth):
        mix = f"mix.{number}"
        inside = [relu(layer(weights, f"{mix}.first", normed(weights, f"{mix}.norm", row))) for row in rows]
        rows = [row + layer(weights, f"{mix}.second", one) for row, one in zip(rows, inside, strict=True)]
    mixed = np.array([layer(weights, "channel_proj", column) for column in np.array(rows).T]).T
    return np.concatenate([layer(weights, "row_proj", row) for row in mixed])


def projected_gem(x: np.ndarray, weights: dict[str, np.ndarray], normalised: bool) -> np.ndarray:
    """GeM and a linear layer of a map (K, h, w), each cell L2-normalised before where asked for."""
    cells = [unit(cell) if normalised else cell for cell in x.reshape(len(x), -1).T]
    p = float(weights["gem.p"][0])
    pooled = np.array([np.mean([max(value, 1e-6) ** p for value in row]) ** (1 / p) for row in np.array(cells).T])
    return layer(weights, "linear", pooled)


def cubic(distance: float) -> float:
    """Keys' cubic kernel with a = -0.75, as PyTorch resizes with."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resized_positions(learned: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Position embeddings (grid, grid, D) to (rows, columns, D), the grid's sides taken for 0.1 cells more."""
    grid = len(learned)
    found = np.zeros((rows, columns, learned.shape[2]))
    for row in range(rows):
        for column in range(columns):
            y, x = (row + 0.5) * grid / (rows + 0.1) - 0.5, (column + 0.5) * grid / (columns + 0.1) - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    weight = cubic(y - i) * cubic(x - j)
                    found[row, column] += weight * learned[min(max(i, 0), grid - 1), min(max(j, 0), grid - 1)]
    return found


def vision_transformer(photo: np.ndarray, weights: dict[str, np.ndarray], depth: int, heads: int) -> np.ndarray:
    """Tokens (1 + cells, D) of a photo (3, H, W) of whole patches, the class token first."""
    side = 14
    kernel = weights["patch_embed.proj.weight"]
    rows, columns = photo.shape[1] // side, photo.shape[2] // side
    learned = weights["pos_embed"][0]
    grid = math.isqrt(len(learned) - 1)
    positions = learned[1:].reshape(grid, grid, -1)
    if (rows, columns) != (grid, grid):
        positions = resized_positions(positions, rows, columns)
    tokens = [weights["cls_token"][0, 0] + learned[0]]
    for row in range(rows):
        for column in range(columns):
            patch = photo[:, row * side : row * side + side, column * side : column * side + side]
            token = (kernel * patch).sum(axis=(1, 2, 3)) + weights["patch_embed.proj.bias"]
            tokens.append(token + positions[row, column])
    for number in range(depth):
        own = {name.removeprefix(f"blocks.{number}."): value for name, value in weights.items()}
        tokens = [
            x + y * own["ls1.gamma"] for x, y in zip(tokens, _looked_at_each_other(tokens, own, heads), strict=True)
        ]
        inside = [layer(own, "mlp.fc1", normed(own, "norm2", x, 1e-6)) for x in tokens]
        bent = [np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in one]) for one in inside]
        tokens = [x + layer(own, "mlp.fc2", y) * own["ls2.gamma"] for x, y in zip(tokens, bent, strict=True)]
    return np.array([normed(weights, "norm", x, 1e-6) if "norm.weight" in weights else x for x in tokens])


def _looked_at_each_other(tokens: list[np.ndarray], own: dict[str, np.ndarray], heads: int) -> list[np.ndarray]:
    """Attention of all tokens to all, after a layer norm."""
    parts = [np.split(layer(own, "attn.qkv", normed(own, "norm1", x, 1e-6)), 3) for x in tokens]
    found = []
    for query, _, _ in parts:
        joined = []
        for asked, head in zip(np.split(query, heads), range(heads), strict=True):
            keys = [np.split(key, heads)[head] for _, key, _ in parts]
            values = [np.split(value, heads)[head] for _, _, value in parts]
            shares = np.exp([asked @ key / math.sqrt(len(asked)) for key in keys])
            joined.append(sum(share * value for share, value in zip(shares / shares.sum(), values, strict=True)))
        found.append(layer(own, "attn.proj", np.concatenate(joined)))
    return found
