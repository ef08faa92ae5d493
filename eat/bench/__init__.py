"""`eat bench`: measurements of the engine, beside the timing of a study.

`systems`       the table of what is measured, and how each row is built
`inputs`        random texts of equal or mixed lengths
`runners`       one system, loaded with texts, timed pass by pass
`processes`     Python processes that answer requests, for what must not share one
`onnx_model`, `onnx_worker`  ONNX Runtime: export, fusion, quantisation; and its own process
`memory`        peak memory of a call, in a fresh process
`measure`       turns, rounds, and what follows from them: percentiles, paired ratios, exponents, crossings
`engine`, `growth`, `training`  the three subcommands
`gpu`, `bundle`  `eat gpu`, what must be known first of the engine on a GPU; and what an offline image lacks for it
`results`, `plots`  what they write
"""
