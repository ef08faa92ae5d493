"""EAT: adaptive Transformer encoders that remove tokens and leave early, measured by the clock.

The modules in the order a batch of text meets them:

`config`      what a study consists of, validated
`sources`     where text and pretrained weights come from
`splits`      text to train, calibration and dev
`tokens`      text to packed token ids
`encoder`     the packed forward pass, with its parts `attention`, `reducers`, `exits`
`model`       the encoder as a Hugging Face model
`training`    fine-tuning by stages
`recording`, `trace`  what every exit said and how many tokens lived, once per example
`calibration` and `operating_points`  every threshold's accuracy, depth and FLOPs, from the trace alone
`timing`      the clock
`summary`, `figures`, `tables`, `report`  what people read
"""

__version__ = "0.1.0"
