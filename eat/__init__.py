"""EAT: adaptive Transformer encoders that remove tokens and leave early, measured by the clock.

The modules in the order of the workflow, and within the forward pass in the order a batch meets them:

`config`, `depths`    what a study consists of, validated
`sources`, `splits`   where text and pretrained weights come from; text to train, calibration and dev
`tokens`              text to token ids
`encoder`             the packed forward pass over a `layout`, with its parts `attention`, `exits`, `reducers`
`model`, `weights`    the encoder as a Hugging Face model, and weights in and out; `cascade`, several in turn
`training`, `losses`, `saliency`  fine-tuning by stages, and what tokens are worth to those that learn it
`recording`, `trace`  what every exit said and how many tokens lived, once per example
`calibration`, `promises`, `operating_points`, `flops`  every threshold's accuracy, depth and work, from the trace
`precision`           a trained model made ready for the clock, in float32 or fewer bits
`timing`, `machine`   the clock, and what it ran on
`summary`, `points`, `statistics`  one row for each operating point, with intervals
`buckets`, `importance`  speed by the length of texts; scores of tokens against their saliency
`figures`, `tables`, `report`, `verdicts`, `rows`, `style`, `rounding`, `typeset`  what people read
`paths`, `files`, `errors`, `progress`  where files lie, how they are written and read, and what a person is told

Beside the workflow: `bench` and `cli` (the command `eat bench`), and `cost`, what a study will take.
"""

__version__ = "0.1.0"
