"""Networks and their parts, the only place that imports flax.linen.

Here and in families, a variable that ends in an underscore and capitals has its shape in its name:
`x_BxLxD` is [batch, length, width]. The letters are the same in every file:

    B  examples of a batch             H, W, C  height, width and channels of an image
    L  positions of an example         V        tokens of a vocabulary
    S  positions that are attended to  F        hidden units of a perceptron
    D  width of the residual stream    E        experts of a mixture
    K  features of one head            M        slots of an expert, the positions it takes
    N  key-value heads                 T        choices of an example, L times experts a position
    G  query heads a key-value head    I, O     inputs and outputs of any linear map
    R  rows of queries, L times G      P        experts of a position
    U  features of a head's value, where its key has others
    Q  positions of a chunk of them    Z        chunks

A network is made of named parts. `config.model` names them, one table for each kind of part lists
what ships, and a dotted path names anybody's own module (`research.parts` says what a part is):

    network    NETWORKS in the family's module
    network    CONDITIONERS in conditioners.py: what a layer of a flow is said by
    bottleneck BOTTLENECKS in research/families/autoencoder: what a latent is
    mixer      MIXERS in transformer.py: what carries information between positions
    attention  KINDS in attention.py: who attends to whom; how it is computed is hardware's
    channel    CHANNELS in transformer.py: what each position does by itself
    router     ROUTERS in moe.py: which experts a position goes to
"""
