/** Unix sockets that are their owner's alone from the first moment, not only after a chmod. */
import { umask } from './libc.ts';

/** What `bind` makes has mode 0600. It must be synchronous: the mask is the whole process's. */
export function madePrivate<Made>(bind: () => Made): Made {
  const before = umask(0o177);
  try {
    return bind();
  } finally {
    umask(before);
  }
}
