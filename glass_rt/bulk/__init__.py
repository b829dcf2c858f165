"""Jobs larger than one process: images on disks and in object stores to verdicts in Parquet.

`glass_rt.bulk.worker` has the worker for any cluster; `glass_rt.bulk.job` runs a whole
job on Ray Data. This module imports nothing, since a process that only judges needs neither Ray nor pyarrow.
"""
