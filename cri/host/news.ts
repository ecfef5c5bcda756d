/**
 * News from the depths for telemetry, which costs nothing while nobody listens: typed channels of node:diagnostics_channel. Nothing that
 * decides anything may listen here.
 */
import { channel } from 'node:diagnostics_channel';

export interface News<Facts> {
  /** `facts` is called only when somebody listens. */
  tell(facts: () => Facts): void;
  /** Returns the function that ends it. */
  listen(listener: (facts: Facts) => void): () => void;
}

function news<Facts>(name: string): News<Facts> {
  const own = channel(name);
  return {
    tell: (facts) => {
      if (own.hasSubscribers) own.publish(facts());
    },
    listen: (listener) => {
      const subscriber = (facts: unknown): void => listener(facts as Facts);
      own.subscribe(subscriber);
      return () => { own.unsubscribe(subscriber); };
    },
  };
}

/** A child process has ended. */
export const programEnded = news<{ readonly program: string; readonly seconds: number; readonly exitCode: number }>('nodelet.program-ended');

/** A blob of an image has come whole from a registry. */
export const blobFetched = news<{ readonly bytes: number; readonly seconds: number }>('nodelet.blob-fetched');
