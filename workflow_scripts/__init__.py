"""One thin command for each rule: arguments in, a call into `eat`, files out. Each runs without Snakemake."""
