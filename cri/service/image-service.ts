/** The CRI's ImageService: messages in, messages out, no decisions. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import {
  type AuthConfig, type Encoded, type Image, type ImageFsInfoResponse, ImageServiceService, type ImageServiceServer, type ImageStatusResponse, PullImageResponse, RemoveImageResponse,
} from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { unary } from './call.ts';
import { imageListMethods } from './list-methods.ts';
import { withRefusals } from './unimplemented.ts';

export interface ImageVerbs {
  /** All images, or those that the reference names. */
  list(ref: string): readonly Encoded<Image>[];
  status(ref: string, isVerbose: boolean): Promise<ImageStatusResponse>;
  /** The image's id. */
  pull(ctx: Ctx, request: { ref: string; auth: AuthConfig | undefined }): Promise<string>;
  /** Unknown is success. */
  remove(ctx: Ctx, ref: string): Promise<void>;
  /** Cheap: asked at every connection of a client. */
  fsInfo(): Promise<ImageFsInfoResponse>;
}

export function imageService(log: Logger, verbs: ImageVerbs): UntypedServiceImplementation {
  const present: Partial<ImageServiceServer> = {
    imageStatus: unary(log, 'ImageStatus', (_ctx, request) =>
      verbs.status(named(request.image?.image, 'image.image'), request.verbose),
    ),
    pullImage: unary(log, 'PullImage', async (ctx, request) => {
      const ref = named(request.image?.image, 'image.image');
      return PullImageResponse.create({ imageRef: await verbs.pull(ctx, { ref, auth: request.auth }) });
    }),
    removeImage: unary(log, 'RemoveImage', async (ctx, request) => {
      await verbs.remove(ctx, named(request.image?.image, 'image.image'));
      return RemoveImageResponse.create();
    }),
    imageFsInfo: unary(log, 'ImageFsInfo', () => verbs.fsInfo()),
  };
  return withRefusals(ImageServiceService, { ...present, ...imageListMethods(log, verbs.list) });
}

function named(value: string | undefined, field: string): string {
  if (value === undefined || value === '') throw new Fault('invalid', `${field}: is empty`);
  return value;
}
