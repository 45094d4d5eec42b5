"""What the command line says of itself; each verb of its own parser says the rest."""

USAGE = """\
pretrain: self-supervised pretraining of text, image and audio models from tar shards

usage:
  pretrain [KEY=VALUE ...]            train; the same command continues an interrupted run
  pretrain -m KEY=A,B [...]           a run for each combination
  pretrain --cfg job [KEY=VALUE ...]  print the composed config and stop
  pretrain launcher=slurm [...]       submit it to Slurm and return; launcher=torchrun: start it by torchrun
  pretrain shards ...                 pack own data into shards, check shards, list what a run saw
  pretrain checkpoints ...            list, verify, prune or doctor a run's checkpoints
  pretrain plan [KEY=VALUE ...]       what a run will need: FLOPs, memory, disk, data, time
  pretrain runs ...                   which runs there are and how they stand; compare, follow or stop them
  pretrain sweep ...                  how the trials of -m stand; resume or retry them, name the best
  pretrain report RUN                 a run's curves, events and results as one page, RUN/report.html
  pretrain export RUN [--out DIR]     write a model for transformers, checked for equal outputs
  pretrain embed RUN SHARDS --out DIR embeddings of samples or files by a trained encoder
  pretrain adapt RUN [KEY=VALUE ...]  train a model's encoders on labelled samples; a run like any other
  pretrain evaluate RUN [watch=true]  held-out values and evaluators of any checkpoint, or of each as it is published
  pretrain search DIR --text TEXT     what of such embeddings is most like a text, a file or a sample

options:
  --config FILE      a whole config (of a run, say) to change and train from, instead of composing one
  --config-dir DIR   own config groups and experiments, searched besides the packaged ones
  --traceback        show where in the code a wrong input was noticed
  --version, --help

examples:
  pretrain                                             text, images and audio together, two minutes on a laptop
  pretrain experiment=clip_tiny run_dir=runs/a seed=1  one objective
  pretrain experiment=mlm_tiny data=shards data.tokenizer=shards/own/tokenizer.json data.vocab_size=8000 \\
           data.text.train='shards/own/*-train-*.tar' data.text.heldout='shards/own/*-val-*.tar'
"""

ADAPT_USAGE = """\
usage: pretrain adapt RUN [KEY=VALUE ...]

Trains the encoders of RUN on labelled samples; a run like any other, which the same command continues.

  RUN                          a run directory, one of its checkpoints/step-XXXXXXXX, or a folder of transformers
  data.folder=DIR              labelled shards, as 'pretrain shards pack ... --label FIELD' makes them
  method=full                  what is trained: full, layerwise (deeper layers slower), frozen (the heads alone), lora
  +task@tasks.NAME=TASK        what to teach, where RUN has several encoders, or not its classes: text_classification,
                               image_classification, audio_classification, ctc
  tasks.NAME.prepare.label=X   where labels are: a member, a field (json.a.b) or a table beside the shards
  run_dir=DIR                  of the new run (default: runs/adapt_RUN)

and all that a training takes: pretrain --help; docs/adapt.md has commands for each modality and what they come to.

example:
  pretrain adapt runs/books data.folder=shards/banking method=lora max_steps=600
"""
