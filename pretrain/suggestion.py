"""What a person may have meant by a config key that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_BESIDE, _ELSEWHERE = 0.6, 0.75  # how alike a name must be to be proposed, in its own place and in another one
_NAMED = 3

FAMILIAR = {
    ours: names.split()
    for ours, names in {
        "max_steps": "epochs num_train_epochs max_epochs num_epochs max_train_steps total_steps max_update train_steps",
        "tasks.TASK.batch_size": "batch_size global_batch_size train_batch_size per_device_train_batch_size",
        "micro_batch_size": "accum_freq gradient_accumulation_steps accumulate_grad_batches update_freq grad_accum",
        "gradient_clip_norm": "max_grad_norm grad_clip_norm clip_grad_norm gradient_clip_val clip_norm grad_clip",
        "optimizer.lr": "learning_rate peak_lr max_lr",
        "optimizer.weight_decay": "wd",
        "optimizer.betas": "beta1 beta2 adam_beta1 adam_beta2 adam_betas",
        "schedule.warmup_steps": "warmup warmup_ratio num_warmup_steps warmup_updates warmup_epochs",
        "encoder@encoders.NAME": "model arch model_name model_name_or_path",
        "init_from": "pretrained load_from finetune_from_model",
        "resume": "resume_from_checkpoint resume_from load_path ckpt_path",
        "run_dir": "output_dir save_dir default_root_dir logs log_dir work_dir",
        "data.folder": "dataset dataset_name train_data data_path data_dir train_file",
        "loader.workers": "dataloader_num_workers",
        "trainer.precision": "bf16 fp16 mixed_precision amp",
        "trainer.devices": "gpus num_gpus num_processes nproc_per_node",
        "trainer.checkpoint_blocks": "gradient_checkpointing grad_checkpointing activation_checkpointing",
        "trainer.compile": "torch_compile torchcompile",
        "checkpoint.every_n_steps": "save_steps save_frequency save_interval checkpoint_interval",
        "checkpoint.keep_last": "save_total_limit keep_last_epochs",
        "evaluate.every_n_steps": "eval_steps val_frequency val_check_interval eval_interval",
        "log_every_n_steps": "logging_steps log_interval",
        "logger": "report_to",
    }.items()
}
"""Our key -> what it is called by transformers, Lightning, open_clip, fairseq and Composer, where names are unlike."""


def suggested(key: str, beside: Sequence[str], everywhere: Sequence[str]) -> str:
    """The tail of an error message about an unknown key: what is meant, and what is there.

    A name that stands in another place of the config, as written or nearly so, is meant where nothing beside the key is
    as near: settings are looked for under the groups of other frameworks. And by their names: see :data:`FAMILIAR`.

    Args:
        key: dotted.
        beside: dotted keys of the same place.
        everywhere: dotted keys of the whole config, those of groups included.
    """
    wanted = _name(key)

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, wanted, _name(other)).ratio()

    rated = [(likeness(k), k) for k in beside]
    least, best = _BESIDE, max((likeness for likeness, _ in rated), default=0.0)
    if best < _ELSEWHERE:
        rated = [(likeness(k), k) for k in everywhere if k not in beside]
        elsewhere = max((likeness for likeness, _ in rated), default=0.0)
        if elsewhere >= _ELSEWHERE:
            least, best = _ELSEWHERE, elsewhere
        else:
            rated = [(likeness(k), k) for k in beside]
    meant = sorted(k for likeness, k in rated if likeness == best)[:_NAMED] if best >= least else []
    if best < 1:
        meant = [ours for ours, names in FAMILIAR.items() if wanted.lower() in names] or meant
    hint = f"did you mean {' or '.join(repr(k) for k in meant)}? " if meant else ""
    return f"{hint}choices: {', '.join(sorted(beside)) or 'none'}"


def _name(key: str) -> str:
    return key.rpartition(".")[2]
