"""What `batch.py` runs beside foretell: each a script of its own process, given model, source, target and kind."""

PANDAS = """
import sys, pandas as pd, mlflow
model, source, target, kind = sys.argv[1:]
opened = (mlflow.sklearn if kind == "iris" else mlflow.xgboost).load_model(model)
frame = pd.read_csv(source)
pd.DataFrame({"prediction": opened.predict(frame)}).to_csv(target, index=False)
"""

POLARS = """
import sys, polars as pl, mlflow
model, source, target, kind = sys.argv[1:]
opened = (mlflow.sklearn if kind == "iris" else mlflow.xgboost).load_model(model)
frame = pl.read_csv(source)
pl.DataFrame({"prediction": opened.predict(frame.to_pandas())}).write_csv(target)
"""

RAY = """
import sys, mlflow, pandas as pd, ray
model, source, target, kind = sys.argv[1:]
def predict(frame, opened=[]):
    if not opened:
        opened.append((mlflow.sklearn if kind == "iris" else mlflow.xgboost).load_model(model))
    return pd.DataFrame({"prediction": opened[0].predict(frame)})
ray.init(log_to_driver=False, include_dashboard=False, object_store_memory=2 << 30)
ray.data.DataContext.get_current().execution_options.preserve_order = True
ray.data.read_csv(source).map_batches(predict, batch_format="pandas").write_csv(target)
"""

SPARK = """
import os, sys, mlflow
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
model, source, target, kind = sys.argv[1:]
os.environ["PYSPARK_PYTHON"] = sys.executable
spark = SparkSession.builder.master("local[*]").config("spark.driver.memory", "4g").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
asked = mlflow.pyfunc.spark_udf(spark, model, result_type="long" if kind == "iris" else "float", env_manager="local")
names = open(source).readline().strip().replace('"', '').split(',')
frame = spark.read.csv(source, header=True, schema=", ".join(f"{name} double" for name in names))
frame.select(asked(struct(*names)).alias("prediction")).write.mode("overwrite").csv(target, header=True)
"""

MAKE = """
import sys, numpy as np, pandas as pd, mlflow
from mlflow.models import infer_signature
folder, kind, names = sys.argv[1], sys.argv[2], sys.argv[3:]
numbers = np.random.default_rng(1)
x = pd.DataFrame(numbers.uniform(0.1, 7.9, (4000, len(names))), columns=names)
y = ((x.sum(axis=1) + numbers.normal(size=len(x))) > x.sum(axis=1).mean()).astype(int)
if kind == "iris":
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression(max_iter=1000).fit(x, y)
    mlflow.sklearn.save_model(model, folder, signature=infer_signature(x, y))
else:
    import xgboost
    model = xgboost.XGBRegressor(n_estimators=500, max_depth=6).fit(x, y)
    mlflow.xgboost.save_model(model, folder, signature=infer_signature(x, y.astype("float32")))
"""

FLOOR = """
from foretell import imports
from foretell.cli.main import without_pandas
imports.alone(); without_pandas()  # as the command does, before anything uses Arrow
import sys, numpy as np
from pathlib import Path
from foretell import predictor
from foretell.batch import Answers, Output
from foretell.job.crew import opener
from foretell.job.inputs import Inputs
from foretell.job.job import run
from foretell.job.outputs import Output as File
from foretell.job.work import Job
from foretell.tables.formats import CSV
model, source, target, kind = sys.argv[1:]
opened = predictor.open(model, trust=True)
assert not {"sklearn", "xgboost"} & set(sys.modules), "the floor is without a library"
dtype = "int64" if kind == "iris" else "float32"
opened.predict = lambda batch, call=None: Answers((Output("", np.zeros(batch.rows, dtype)),))
job = Job(CSV, CSV)
with Inputs([source], opener(job, opened)) as inputs:
    for told in run(job, opened, inputs, File(Path(target))): pass
"""

STAGES = """
from foretell import imports
from foretell.cli.main import without_pandas
imports.alone(); without_pandas()  # as the command does, before anything uses Arrow
import sys, time
from foretell import predictor
from foretell.batch import Call
from foretell.job.crew import opener
from foretell.job.inputs import Inputs
from foretell.job.work import Job
from foretell.tables import formats
model, source, target, kind = sys.argv[1:]
opened = predictor.open(model, trust=True)
job, spent, clock = Job(formats.CSV, formats.CSV), [0.0] * 4, time.process_time
writer = formats.writer(job.output_format, "prediction", None)
with Inputs([source], opener(job, opened)) as inputs, open(target, "wb") as file:
    blocks, start = inputs.blocks(), clock()
    while True:
        times = [clock()]
        if (tagged := next(blocks, None)) is None: break
        times.append(clock()); rows = tagged.reader.parse(tagged.block)
        times.append(clock()); answers = opened.predict(rows.batch, Call())
        times.append(clock()); file.write(writer.add(writer.part(rows.kept, answers)))
        times.append(clock())
        spent = [sum_ + b - a for sum_, a, b in zip(spent, times, times[1:])]
print(start, *spent)
"""
"""What each stage of a job takes of one processor, none beside another: start, cut, parse, predict, write."""
