/** What the CRI server tells of itself. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { blobFetched, programEnded } from '#host/news.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import type { MetricRegistry, Sample } from './registry.ts';

/** In seconds: answers from memory take less than the first, a pull may take longer than the last. */
const callBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const delayResolutionMs = 50;
const quantiles = [50, 90, 99, 100];

export interface CallMetrics {
  began(method: string): void;
  /** `code` is the name of a gRPC status. */
  ended(call: { readonly method: string; readonly code: string; readonly seconds: number }): void;
}

export function callMetrics(registry: MetricRegistry): CallMetrics {
  const took = registry.histogram('nodelet_cri_rpc_duration_seconds', 'How long calls of the CRI took', ['method', 'code'], callBounds);
  const inFlight = new Map<string, number>();
  registry.gauge('nodelet_cri_rpcs_in_flight', 'Calls of the CRI that are being answered', ['method'], () => [...inFlight].map(([method, count]) => [count, method]));
  const count = (method: string, more: number): void => void inFlight.set(method, (inFlight.get(method) ?? 0) + more);
  return {
    began: (method) => count(method, 1),
    ended: ({ method, code, seconds }) => {
      count(method, -1);
      took.observe(seconds, method, code);
    },
  };
}

export interface Counted {
  readonly containers: Pick<ContainerStore, 'list'>;
  readonly sandboxes: Pick<SandboxStore, 'list'>;
  readonly countImages: () => number;
  readonly lostEvents: () => number;
}

/** Returns the function that ends what was begun here. */
export function serverMetrics(registry: MetricRegistry, { containers, sandboxes, countImages, lostEvents }: Counted): () => void {
  registry.gauge('nodelet_cri_sandboxes', 'Pod sandboxes by state', ['state'], () => byState(['making', 'ready', 'not-ready'], sandboxes.list()));
  registry.gauge('nodelet_cri_containers', 'Containers by state', ['state'], () => byState(['making', 'created', 'running', 'exited'], containers.list()));
  registry.gauge('nodelet_cri_images', 'Images', [], () => [[countImages()]]);
  registry.readCounter('nodelet_cri_events_lost_total', 'Events that slow clients of GetContainerEvents have missed', [], () => [[lostEvents()]]);
  const programs = registry.histogram('nodelet_program_duration_seconds', 'How long programs ran that nodelet starts: OCI runtimes, conmon, CNI plugins', ['program'], callBounds);
  const blobBytes = registry.counter('nodelet_cri_image_pull_bytes_total', 'Bytes of blobs that came from registries');
  const blobs = registry.histogram('nodelet_cri_image_blob_duration_seconds', 'How long a blob took to come from its registry', [], callBounds);
  const ends = [
    programEnded.listen(({ program, seconds }) => programs.observe(seconds, program)),
    blobFetched.listen(({ bytes, seconds }) => {
      blobBytes.add(bytes);
      blobs.observe(seconds);
    }),
    processMetrics(registry),
  ];
  return () => { for (const end of ends) end(); };
}

function byState(states: readonly string[], records: readonly { readonly state: { readonly name: string } }[]): Sample[] {
  const counts = new Map<string, number>();
  for (const { state } of records) counts.set(state.name, (counts.get(state.name) ?? 0) + 1);
  return states.map((state) => [counts.get(state) ?? 0, state]);
}

function processMetrics(registry: MetricRegistry): () => void {
  const startedAtSeconds = Date.now() / 1000 - process.uptime();
  registry.gauge('process_start_time_seconds', 'When the process started, in seconds since 1970', [], () => [[startedAtSeconds]]);
  registry.gauge('process_resident_memory_bytes', 'Memory of the process', [], () => [[process.memoryUsage.rss()]]);
  registry.gauge('nodejs_heap_used_bytes', 'Memory of JavaScript objects', [], () => [[process.memoryUsage().heapUsed]]);
  registry.readCounter('process_cpu_seconds_total', 'CPU time of the process', [], () => {
    const { user, system } = process.cpuUsage();
    return [[(user + system) / 1e6]];
  });
  const delay = monitorEventLoopDelay({ resolution: delayResolutionMs });
  delay.enable();
  registry.gauge('nodejs_event_loop_delay_seconds', 'How late the event loop was, since the last scrape', ['quantile'], () => {
    // Each measurement includes the pause between two.
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - delayResolutionMs / 1000);
    const samples = quantiles.map((percent): Sample => [delay.count === 0 ? 0 : late(delay.percentile(percent)), String(percent / 100)]);
    delay.reset();
    return samples;
  });
  return () => void delay.disable();
}
