"""Models as users write them, for `training_script.py`: with training steps of their own, on every backend of Keras.

The GAN follows Keras's example `dcgan_overriding_train_step`, the VAE its example `vae`. Neither has a `call`. On JAX,
which needs steps without side effects, all variables change within a scope, as in `custom_train_step_in_jax`.
"""

import keras
from keras import layers, ops

__all__ = ["make_gan", "make_plain", "make_vae"]

BACKEND = keras.backend.backend()
LATENT = 4


def make_plain(settings):
    """A classifier with a random layer that is not seeded."""
    model = keras.Sequential(
        [
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.4),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=settings.get("steps_per_execution", 1),
    )
    return model


def scaled(data):
    images = data[0] if isinstance(data, (tuple, list)) else data
    return ops.cast(images, "float32") / 255


class TensorFlowStep:
    def train_step(self, data):
        return self.step(scaled(data))

    def descend(self, optimizer, variables, loss):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            values = loss()
        optimizer.apply_gradients(zip(tape.gradient(values[0], variables), variables, strict=True))
        return values


class TorchStep:
    def train_step(self, data):
        return self.step(scaled(data))

    def descend(self, optimizer, variables, loss):
        import torch

        self.zero_grad()
        values = loss()
        values[0].backward()
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)
        return [value.detach() for value in values]


class JaxStep:
    def train_step(self, state, data):
        groups = [self.trainable_variables, self.non_trainable_variables, self.optimizer.variables]
        groups.append(self.metrics_variables)
        mapping = [
            pair for group, values in zip(groups, state, strict=True) for pair in zip(group, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            logs = self.step(scaled(data))
        return logs, tuple([scope.get_current_value(variable) for variable in group] for group in groups)

    def descend(self, optimizer, variables, loss):
        import jax

        others = [*self.trainable_variables, *self.non_trainable_variables]
        now = [variable.value for variable in others]

        def loss_of(values):
            mapping = [*zip(others, now, strict=True), *zip(variables, values, strict=True)]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                found = loss()
            changed = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
            return found[0], (found, changed)

        values = [variable.value for variable in variables]
        gradients, (found, changed) = jax.grad(loss_of, has_aux=True)(values)
        for variable, value in zip(self.non_trainable_variables, changed, strict=True):
            variable.assign(value)
        optimizer.apply(gradients, variables)
        return found


Step = {"tensorflow": TensorFlowStep, "torch": TorchStep, "jax": JaxStep}[BACKEND]


class GAN(Step, keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.seed_generator = keras.random.SeedGenerator(1337)
        # There is nothing to build, as Keras's guides for JAX and PyTorch say; on TensorFlow they do not.
        self.built = BACKEND != "tensorflow"

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")
        if BACKEND == "jax":
            # Keras hands a step the variables that it knows of.
            d_optimizer.build(self.discriminator.trainable_variables)
            g_optimizer.build(self.generator.trainable_variables)
            self.optimizer_variables = [*d_optimizer.variables, *g_optimizer.variables]

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def latent(self, images):
        return keras.random.normal((ops.shape(images)[0], LATENT), seed=self.seed_generator)

    def step(self, images):
        ones = ops.ones((ops.shape(images)[0], 1))
        combined = ops.concatenate([self.generator(self.latent(images)), images], axis=0)
        labels = ops.concatenate([ones, ops.zeros_like(ones)], axis=0)
        labels = ops.abs(labels - 0.05 * keras.random.uniform(ops.shape(labels), seed=self.seed_generator))
        if BACKEND == "torch":
            combined = combined.detach()
        d_loss = self.descend(
            self.d_optimizer,
            self.discriminator.trainable_variables,
            lambda: [self.loss_fn(labels, self.discriminator(combined, training=True))],
        )[0]
        noise = self.latent(images)
        g_loss = self.descend(
            self.g_optimizer,
            self.generator.trainable_variables,
            lambda: [self.loss_fn(ops.zeros_like(ones), self.discriminator(self.generator(noise), training=True))],
        )[0]
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}


def make_gan(settings):
    discriminator = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 4, strides=4),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(4 * 4 * 4),
            layers.Reshape((4, 4, 4)),
            layers.UpSampling2D(4),
            layers.Conv2D(3, 3, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )
    gan = GAN(discriminator, generator)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.RMSprop(1e-3), keras.losses.BinaryCrossentropy())
    return gan


class Sampling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=self.seed_generator)


class VAE(Step, keras.Model):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")
        self.built = BACKEND != "tensorflow"

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.reconstruction_loss_tracker, self.kl_loss_tracker]

    def losses_of(self, images):
        mean, log_var, sample = self.encoder(images)
        reconstruction = ops.mean(ops.sum(keras.losses.binary_crossentropy(images, self.decoder(sample)), axis=(1, 2)))
        kl = ops.mean(ops.sum(-0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var)), axis=1))
        return [reconstruction + kl, reconstruction, kl]

    def step(self, images):
        values = self.descend(self.optimizer, self.trainable_variables, lambda: self.losses_of(images))
        for tracker, value in zip(self.metrics, values, strict=True):
            tracker.update_state(value)
        # In the example, "loss" and not the metric's own name.
        return {"loss" if tracker.name == "total_loss" else tracker.name: tracker.result() for tracker in self.metrics}


def make_vae(settings):
    images = keras.Input((16, 16, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", strides=4)(images))
    mean, log_var = layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)
    encoder = keras.Model(images, [mean, log_var, Sampling()([mean, log_var])], name="encoder")
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(4 * 4 * 4, activation="relu"),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(3, 3, strides=4, padding="same", activation="sigmoid"),
        ],
        name="decoder",
    )
    vae = VAE(encoder, decoder)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    return vae
