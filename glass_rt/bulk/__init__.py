"""Jobs larger than one process: images on disks and in object stores to verdicts in Parquet.

`glass_rt.bulk.worker` holds what a cluster's worker needs, whichever cluster it is; `glass_rt.bulk.job` runs a whole
job on Ray Data. Nothing is imported here: a process that only judges needs neither Ray nor pyarrow.
"""
