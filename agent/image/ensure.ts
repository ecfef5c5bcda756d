/** Makes an image present for a container: policy, credentials, back-off, and the kubelet's events about it. */
import type { Image, PodSandboxConfig } from '#cri-api';
import { BackOff } from '#host/back-off.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, isFault } from '#host/fault.ts';
import { CriError } from '../cri/call.ts';
import type { Runtime } from '../cri/runtime.ts';
import type { EventRecorder, EventType } from '../kube/events.ts';
import { podUid } from '../kube/pod-facts.ts';
import { containerReference } from '../kube/references.ts';
import type { Container, Pod, Secret } from '../kube/types.ts';
import { credentialsFor } from './keyring.ts';
import { defaultPullPolicy, parseImageName } from './pull-policy.ts';
import { StartError } from './start-error.ts';

export interface ImageDeps {
  readonly runtime: Pick<Runtime, 'image' | 'pullImage'>;
  readonly events: EventRecorder;
  readonly nowMs: () => number;
}

export interface PresentImage {
  /** What containers are created with. */
  readonly ref: string;
  readonly known: Image | undefined;
}

const registryUnavailable = 'RegistryUnavailable';
const signatureFailed = 'SignatureValidationFailed';

export class Images {
  readonly #deps: ImageDeps;
  readonly #backOff = new BackOff<string>({ initialMs: 10_000, capMs: 300_000, resetAfterMs: 600_000 });
  readonly #lastError = new Map<string, string>();

  constructor(deps: ImageDeps) {
    this.#deps = deps;
  }

  /** Throws StartError with the reason and message of the container's status. */
  async ensure(ctx: Ctx, pod: Pod, container: Container, how: { secrets: readonly Secret[]; sandbox: PodSandboxConfig }): Promise<PresentImage> {
    const requested = container.image ?? '';
    const say = (type: EventType, reason: string, message: string): void => this.#deps.events.event(containerReference(pod, container.name), type, reason, message);
    const image = this.#normalised(requested, say);
    const policy = container.imagePullPolicy ?? defaultPullPolicy(requested);
    const present = policy === 'Always' ? undefined : await this.#inspect(ctx, image, say);
    if (present !== undefined) {
      say('Normal', 'Pulled', `Container image "${requested}" already present on machine and can be accessed by the pod`);
      return { ref: present.id, known: present };
    }
    if (policy === 'Never') {
      const message = `Container image "${requested}" is not present with pull policy of Never`;
      say('Warning', 'ErrImageNeverPull', message);
      throw new StartError('ErrImageNeverPull', message);
    }
    return this.#pull(ctx, { key: `${podUid(pod)}_${requested}`, requested, image, ...how, say });
  }

  /** The pod is gone: its failures are nobody's. */
  forget(podUid: string): void {
    for (const key of this.#lastError.keys()) {
      if (!key.startsWith(`${podUid}_`)) continue;
      this.#backOff.reset(key);
      this.#lastError.delete(key);
    }
  }

  #normalised(requested: string, say: Say): string {
    try {
      return parseImageName(requested).reference;
    } catch (cause) {
      const message = `Failed to apply default image tag "${requested}": ${explain(cause)}`;
      say('Warning', 'InspectFailed', message);
      throw new StartError('InvalidImageName', message, { cause });
    }
  }

  async #inspect(ctx: Ctx, image: string, say: Say): Promise<Image | undefined> {
    try {
      return await this.#deps.runtime.image(ctx, image);
    } catch (cause) {
      const message = `Failed to inspect image "${image}": ${explain(cause)}`;
      say('Warning', 'InspectFailed', message);
      throw new StartError('ImageInspectError', message, { cause });
    }
  }

  async #pull(ctx: Ctx, pull: Pull): Promise<PresentImage> {
    const { key, requested, say } = pull;
    const heldMs = this.#backOff.delayLeftMs(key, this.#deps.nowMs());
    if (heldMs > 0) {
      const message = `Back-off pulling image "${requested}"`;
      say('Normal', 'BackOff', message);
      const last = this.#lastError.get(key);
      throw new StartError('ImagePullBackOff', last === undefined ? message : `${message}: ${last}`, { retryInMs: heldMs });
    }
    this.#lastError.delete(key);
    say('Normal', 'Pulling', `Pulling image "${requested}"`);
    const startedMs = this.#deps.nowMs();
    try {
      const ref = await this.#pullWithCredentials(ctx, pull);
      const known = await this.#deps.runtime.image(ctx, ref);
      const took = goDuration(this.#deps.nowMs() - startedMs);
      say('Normal', 'Pulled', `Successfully pulled image "${requested}" in ${took} (${took} including waiting). Image size: ${known?.size ?? 0n} bytes.`);
      this.#backOff.reset(key);
      return { ref, known };
    } catch (cause) {
      if (ctx.signal.aborted) throw cause; // given up because the pod went away: nobody's fault
      throw this.#failed(pull, cause);
    }
  }

  #failed({ key, requested, say }: Pull, cause: unknown): StartError {
    const text = cause instanceof CriError ? cause.details : explain(cause);
    say('Warning', 'Failed', `Failed to pull image "${requested}": ${text}`);
    const retryInMs = this.#backOff.next(key, this.#deps.nowMs());
    const rest = (prefix: string): string => text.slice(prefix.length);
    const error = text.startsWith(registryUnavailable)
      ? new StartError(registryUnavailable, `image pull failed for ${requested} because the registry is unavailable${rest(registryUnavailable)}`, { cause, retryInMs })
      : text.startsWith(signatureFailed)
        ? new StartError(signatureFailed, `image pull failed for ${requested} because the signature validation failed${rest(signatureFailed)}`, { cause, retryInMs })
        : new StartError('ErrImagePull', text, { cause, retryInMs });
    this.#lastError.set(key, `${error.reason}: ${error.message}`);
    return error;
  }

  /** One set of credentials after another until the registry takes one. */
  async #pullWithCredentials(ctx: Ctx, { image, secrets, sandbox }: Pull): Promise<string> {
    const found = credentialsFor(image, secrets);
    if (found.length === 0) return this.#deps.runtime.pullImage(ctx, image, undefined, sandbox);
    let last: unknown;
    for (const credentials of found) {
      try {
        return await this.#deps.runtime.pullImage(ctx, image, credentials, sandbox);
      } catch (error) {
        if (isFault(error, 'canceled')) throw error;
        last = error;
      }
    }
    throw last;
  }
}

type Say = (type: EventType, reason: string, message: string) => void;

interface Pull {
  readonly key: string;
  readonly requested: string;
  readonly image: string;
  readonly secrets: readonly Secret[];
  readonly sandbox: PodSandboxConfig;
  readonly say: Say;
}

/** Milliseconds as Go prints a duration: `850ms`, `1.25s`, `1m3.5s`. */
export function goDuration(ms: number): string {
  const rounded = Math.max(0, Math.round(ms));
  if (rounded === 0) return '0s';
  if (rounded < 1000) return `${rounded}ms`;
  const hours = Math.floor(rounded / 3_600_000);
  const minutes = Math.floor((rounded % 3_600_000) / 60_000);
  const seconds = `${(rounded % 60_000) / 1000}s`;
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds}`;
}
