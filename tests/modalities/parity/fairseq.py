"""The loss of wav2vec 2.0 in plain steps, on the parts of a ``transformers`` model."""

import torch
import torch.nn.functional as F


def fairseq_loss(model, inputs, loss_weights):
    """The training loss as fairseq's ``Wav2VecCriterion`` (infonce) has it, divided by the number of masked frames.

    Written down from its formula: logits over positive and negatives, those that equal the positive at minus infinity,
    cross-entropy summed; ``sample_size`` times the unused share of codes and times the mean square of the features.
    """
    quantizer = model.quantizer
    total, sample_size, chosen, squares = 0.0, 0, [], []
    for wave, mask, negatives in inputs:
        output = model.wav2vec2(wave, mask_time_indices=mask)
        x = model.project_hid(output.last_hidden_state)[mask]
        codes = quantizer(output.extract_features, mask)[0][0]
        y = model.project_q(codes)
        positive, negative = y[mask[0]].unsqueeze(0), y[negatives[mask].t()]
        targets = torch.cat((positive, negative))
        logits = torch.cosine_similarity(x.unsqueeze(0), targets, dim=-1) / 0.1
        neg_is_pos = (codes[mask[0]].unsqueeze(0) == codes[negatives[mask].t()]).all(-1)
        logits[1:] = logits[1:].masked_fill(neg_is_pos, float("-inf"))
        target = torch.zeros(logits.shape[1], dtype=torch.int64)
        total = total + F.cross_entropy(logits.t(), target, reduction="sum")
        sample_size += len(target)
        chosen.append(quantizer.weight_proj(output.extract_features[mask]).unflatten(-1, (quantizer.num_groups, -1)))
        squares.append(model.wav2vec2.feature_extractor(wave)[0].t().square())
    average = torch.cat(chosen).softmax(-1).mean(0)
    prob_perplexity = torch.exp(-torch.sum(average * torch.log(average + 1e-7), dim=-1)).sum()
    num_vars = average.numel()
    penalties = [(num_vars - prob_perplexity) / num_vars, torch.cat(squares).mean()]
    for weight, penalty in zip(loss_weights, penalties, strict=True):
        total = total + weight * penalty * sample_size
    return total / sample_size
