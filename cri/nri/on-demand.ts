/**
 * NRI while no plugin has come yet: nothing is told, and the messages (a megabyte of code and objects) are not even loaded. Who stands between a moment
 * and its deed is noted from the beginning, so that the first plugin joins like any other.
 */
import { Gate } from './gate.ts';
import { type Nri, noNri } from './nri.ts';
import type { NriDeps, NriRuntime } from './runtime.ts';

export class NriOnDemand implements Nri {
  readonly #deps: NriDeps;
  readonly #gate = new Gate();
  #loading: Promise<NriRuntime> | undefined;
  #runtime: Nri = noNri;

  constructor(deps: NriDeps) {
    this.#deps = deps;
  }

  /** Before a plugin joins, and where every container is to be validated. May be called twice. */
  load(): Promise<NriRuntime> {
    this.#loading ??= import('./runtime.ts').then(({ NriRuntime }) => {
      const runtime = new NriRuntime(this.#deps, this.#gate);
      this.#runtime = runtime;
      return runtime;
    });
    return this.#loading;
  }

  enter: Nri['enter'] = () => this.#gate.enter();
  runPodSandbox: Nri['runPodSandbox'] = (...facts) => this.#runtime.runPodSandbox(...facts);
  updatePodSandbox: Nri['updatePodSandbox'] = (...facts) => this.#runtime.updatePodSandbox(...facts);
  postUpdatePodSandbox: Nri['postUpdatePodSandbox'] = (...facts) => this.#runtime.postUpdatePodSandbox(...facts);
  stopPodSandbox: Nri['stopPodSandbox'] = (...facts) => this.#runtime.stopPodSandbox(...facts);
  removePodSandbox: Nri['removePodSandbox'] = (...facts) => this.#runtime.removePodSandbox(...facts);
  createContainer: Nri['createContainer'] = (...facts) => this.#runtime.createContainer(...facts);
  postCreateContainer: Nri['postCreateContainer'] = (...facts) => this.#runtime.postCreateContainer(...facts);
  undoCreateContainer: Nri['undoCreateContainer'] = (...facts) => this.#runtime.undoCreateContainer(...facts);
  startContainer: Nri['startContainer'] = (...facts) => this.#runtime.startContainer(...facts);
  postStartContainer: Nri['postStartContainer'] = (...facts) => this.#runtime.postStartContainer(...facts);
  updateContainer: Nri['updateContainer'] = (...facts) => this.#runtime.updateContainer(...facts);
  postUpdateContainer: Nri['postUpdateContainer'] = (...facts) => this.#runtime.postUpdateContainer(...facts);
  stopContainer: Nri['stopContainer'] = (...facts) => this.#runtime.stopContainer(...facts);
  removeContainer: Nri['removeContainer'] = (...facts) => this.#runtime.removeContainer(...facts);
}
