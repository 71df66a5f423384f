/* Work that the server does beside answering: started, followed, cancelled. */

import { at, Away, call } from "./api.js";
import { app } from "./app.js";
import { notify } from "./notify.js";

const POLL_MS = 400;

/* Start a job and return its result; null where it failed or was cancelled, which is said.

   `signal` ends the following, not the job. `onProgress(job)` is called as it goes on. */
export async function runJob(path, body, { signal, onProgress = () => {} } = {}) {
  let { job } = await call(at(path), { method: "POST", body, signal });
  noteJob(job);
  while (["waiting", "running"].includes(job.state)) {
    onProgress(job);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal?.throwIfAborted();
    job = (await polled(job.id, signal)) || job;
    noteJob(job);
  }
  onProgress(job);
  if (job.state === "failed") notify(job.error, { problem: true });
  if (job.state === "cancelled") notify(`${job.title}: cancelled. What was finished stays.`);
  return job.state === "done" ? job.result : null;
}

/* A job as it is now; null while the server is away. */
async function polled(id, signal) {
  try {
    return (await call(at(`jobs/${id}`), { signal })).job;
  } catch (error) {
    if (error instanceof Away) return null;
    throw error;
  }
}

/* Put a job into the header. */
function noteJob(job) {
  app.jobs = [...app.jobs.filter((one) => one.id !== job.id), job];
  app.tell("state");
}

export async function cancelJob(id) {
  const { job } = await call(at(`jobs/${id}`), { method: "DELETE" });
  noteJob(job);
}
