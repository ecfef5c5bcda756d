/** `pods.json`: the pods of a standalone node with their statuses, for whoever wants to look, as the API server would tell. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { podUid } from './kube/pod-facts.ts';
import type { Pod, PodStatus } from './kube/types.ts';
import type { StatusWriter } from './status/writer.ts';

export class PodReport {
  readonly #file: string;
  #writing = Promise.resolve();
  #pending = false;

  constructor(agentRoot: string) {
    this.#file = join(agentRoot, 'pods.json');
  }

  /** What the last run said of its pods, by UID: so that transition and start times survive a restart. An unreadable file counts as empty. */
  async last(): Promise<Map<string, PodStatus>> {
    try {
      const { items } = JSON.parse(await readFile(this.#file, 'utf8')) as { items: Pod[] }; // our own file
      return new Map(items.flatMap((pod) => (pod.status === undefined ? [] : [[podUid(pod), pod.status]])));
    } catch {
      return new Map();
    }
  }

  /** Many changes at once make one file. */
  changed(ctx: Ctx, pods: () => readonly Pod[], status: Pick<StatusWriter, 'get'>): void {
    if (this.#pending) return;
    this.#pending = true;
    this.#writing = this.#writing.then(async () => {
      this.#pending = false;
      const items = pods().map((pod) => ({ ...pod, status: status.get(podUid(pod)) ?? pod.status }));
      await writeFileAtomic(this.#file, `${JSON.stringify({ apiVersion: 'v1', kind: 'PodList', items }, undefined, 1)}\n`, { mode: 0o600 });
    }).catch((error: unknown) => ctx.log.warn({ file: this.#file, why: explain(error) }, 'pods not reported'));
  }

  flushed(): Promise<void> {
    return this.#writing;
  }
}
