"""Networks of the shapes that people train, built by Keras, with random weights.

The first seven are small. The others are rebuilt from public descriptions: no weights, and none of
their authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = ["NETWORKS"]


def lenet5() -> keras.Model:
    """LeCun, Bottou, Bengio and Haffner 1998, with average pooling and a softmax."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((32, 32, 1)),
            layers.Conv2D(6, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="tanh"),
            layers.Dense(84, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def simple_convnet() -> keras.Model:
    """Two convolutions and a classifier, as in the first vision example of the Keras site."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fashion() -> keras.Model:
    """A network as people train on Fashion-MNIST: pairs of convolutions with normalisation."""
    from keras import Input, Sequential, layers

    body: list[Any] = [Input((28, 28, 1))]
    for channels in (32, 64):
        for _ in range(2):
            body += [
                layers.Conv2D(channels, 3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
        body += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    body += [
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.BatchNormalization(),
        layers.Dense(10, activation="softmax"),
    ]
    return Sequential(body)


def resnet() -> keras.Model:
    """A residual network of some 100,000 parameters for 32x32 colour images (He et al. 2016)."""
    from keras import Input, Model, layers

    x = image = Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for channels, blocks in ((16, 2), (32, 2), (64, 1)):
        for block in range(blocks):
            stride = 2 if block == 0 and channels > 16 else 1
            y = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(y)
            y = layers.BatchNormalization()(y)
            if stride > 1:
                x = layers.Conv2D(channels, 1, stride, use_bias=False)(x)
                x = layers.BatchNormalization()(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(10, activation="softmax")(x))


def mobilenet() -> keras.Model:
    """Depthwise separable convolutions (Howard et al. 2017) for 32x32 colour images."""
    from keras import Input, Model, layers

    x = image = Input((32, 32, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for channels, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(channels, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(10, activation="softmax")(x))


def letters() -> keras.Model:
    """A network for the 62 letters and digits of EMNIST."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(62, activation="softmax"),
        ]
    )


def mlp() -> keras.Model:
    """A perceptron with two hidden layers."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def _block(x: Any, layer: Any, activation: str | None = "relu") -> Any:
    """A layer without a bias, normalised, and activated unless that is None."""
    from keras import layers

    x = layers.BatchNormalization()(layer(x))
    return x if activation is None else layers.Activation(activation)(x)


def mini_xception() -> keras.Model:
    """Four residual modules of separable convolutions for faces of 64x64 (Arriaga, Valdenegro-Toro
    and Ploger 2017), as networks that recognise emotions have them."""
    from keras import Input, Model, layers

    x = image = Input((64, 64, 1))
    for _ in range(2):
        x = _block(x, layers.Conv2D(8, 3, use_bias=False))
    for channels in (16, 32, 64, 128):
        beside = _block(x, layers.Conv2D(channels, 1, 2, padding="same", use_bias=False), None)
        for activation in ("relu", None):
            separable = layers.SeparableConv2D(channels, 3, padding="same", use_bias=False)
            x = _block(x, separable, activation)
        x = layers.Add()([layers.MaxPooling2D(3, 2, padding="same")(x), beside])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(7, 3, padding="same")(x))
    return Model(image, layers.Softmax()(x))


def traffic_signs() -> keras.Model:
    """Pairs of 5x5 and of 3x3 convolutions for the 43 signs of GTSRB, as tutorials train them."""
    from keras import Input, Sequential, layers

    body: list[Any] = [Input((30, 30, 3))]
    for channels, size in ((32, 5), (64, 3)):
        body += [layers.Conv2D(channels, size, activation="relu") for _ in range(2)]
        body += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    body += [
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(43, activation="softmax"),
    ]
    return Sequential(body)


def cifar() -> keras.Model:
    """The convolutional network for CIFAR-10 that came with Keras as an example."""
    from keras import Input, Sequential, layers

    body: list[Any] = [Input((32, 32, 3))]
    for channels in (32, 64):
        body += [
            layers.Conv2D(channels, 3, padding="same", activation="relu"),
            layers.Conv2D(channels, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
        ]
    body += [
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
    return Sequential(body)


def pfld() -> keras.Model:
    """98 landmarks of a face of 112x112, by inverted residuals and three scales at the end, as in
    PFLD (Guo et al. 2019), with a quarter of its channels."""
    from keras import Input, Model, layers

    def bottleneck(x: Any, channels: int, stride: int, expansion: int) -> Any:
        inner = x.shape[-1] * expansion
        y = _block(x, layers.Conv2D(inner, 1, use_bias=False))
        y = _block(y, layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False))
        y = _block(y, layers.Conv2D(channels, 1, use_bias=False), None)
        return layers.Add()([x, y]) if stride == 1 and channels == x.shape[-1] else y

    x = image = Input((112, 112, 3))
    x = _block(x, layers.Conv2D(16, 3, 2, padding="same", use_bias=False))
    x = _block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False))
    for channels, stride, expansion, times in (
        (16, 2, 2, 5),
        (32, 2, 2, 1),
        (32, 1, 4, 6),
        (16, 1, 2, 1),
    ):
        for _ in range(times):
            x = bottleneck(x, channels, stride, expansion)
            stride = 1
    scales = [layers.GlobalAveragePooling2D()(x)]
    x = _block(x, layers.Conv2D(32, 3, 2, padding="same", use_bias=False))
    scales.append(layers.GlobalAveragePooling2D()(x))
    x = layers.Conv2D(128, 7, activation="relu")(x)
    scales.append(layers.Flatten()(x))
    return Model(image, layers.Dense(196)(layers.Concatenate()(scales)))


def mobilenet_96() -> keras.Model:
    """MobileNet (Howard et al. 2017) with a quarter of its channels for 96x96 colour images, as
    MLPerf Tiny's visual wake words have it."""
    from keras import Input, Model, layers

    x = image = Input((96, 96, 3))
    x = _block(x, layers.Conv2D(8, 3, 2, padding="same", use_bias=False))
    for channels, stride in (
        *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
        *[(128, 1)] * 5,
        *((256, 2), (256, 1)),
    ):
        x = _block(x, layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False))
        x = _block(x, layers.Conv2D(channels, 1, use_bias=False))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(2, activation="softmax")(x))


def ds_cnn() -> keras.Model:
    """Twelve spoken words, of 49 frames of ten coefficients, by depthwise separable convolutions
    (Zhang, Suda, Lai and Chandra 2017), as MLPerf Tiny has it."""
    from keras import Input, Model, layers

    x = frames = Input((49, 10, 1))
    x = _block(x, layers.Conv2D(64, (10, 4), 2, padding="same", use_bias=False))
    for _ in range(4):
        x = _block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False))
        x = _block(x, layers.Conv2D(64, 1, use_bias=False))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(frames, layers.Dense(12, activation="softmax")(x))


def resnet8() -> keras.Model:
    """The residual network of MLPerf Tiny for CIFAR-10: three blocks."""
    from keras import Input, Model, layers

    x = image = Input((32, 32, 3))
    x = _block(x, layers.Conv2D(16, 3, padding="same", use_bias=False))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = _block(x, layers.Conv2D(channels, 3, stride, padding="same", use_bias=False))
        y = _block(y, layers.Conv2D(channels, 3, padding="same", use_bias=False), None)
        if stride > 1:
            x = layers.Conv2D(channels, 1, stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(10, activation="softmax")(x))


def mnist_pytorch() -> keras.Model:
    """The network of PyTorch's MNIST example: a dense layer of 9,216 inputs."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def quickstart() -> keras.Model:
    """The network of TensorFlow's quickstart for experts: a dense layer of 21,632 inputs."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def captcha() -> keras.Model:
    """Text of five letters in 200x50, by two convolutions and two bidirectional LSTMs, as the
    example of the Keras site has it, without its CTC loss. What it says of each step comes out as
    one vector, for the benchmark compares vectors, and is not as even as random weights make it."""
    from keras import Input, Model, initializers, layers

    x = image = Input((200, 50, 1))
    for channels in (32, 64):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(64, activation="relu")(layers.Reshape((50, 12 * 64))(x))
    for units in (128, 64):
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(x)
    wide = initializers.RandomNormal(stddev=2.0)
    x = layers.Dense(21, activation="softmax", kernel_initializer=wide)(x)
    return Model(image, layers.Flatten()(x))


def meter() -> keras.Model:
    """A digit of a water or power meter, 32x20 in colour, or the sign that it is between two."""
    from keras import Input, Sequential, layers

    body: list[Any] = [Input((32, 20, 3)), layers.BatchNormalization()]
    for channels in (32, 64, 64):
        body += [
            layers.Conv2D(channels, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
        ]
    body += [
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dense(11, activation="softmax"),
    ]
    return Sequential(body)


NETWORKS: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        *(lenet5, simple_convnet, fashion, resnet, mobilenet, letters, mlp),
        *(mini_xception, traffic_signs, cifar, pfld, mobilenet_96, ds_cnn),
        *(resnet8, mnist_pytorch, quickstart, captcha, meter),
    )
}
